"""How to reach Kafka: the brokers, and what their listener demands of a client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KafkaCluster:
    """A cluster, as a client needs it.

    Attributes:
        bootstrap: brokers to connect to first, host:port, separated by commas.
        security: aiokafka's options for TLS and SASL; none for a listener in clear.
    """

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client_options(self) -> dict[str, Any]:
        """What each client of aiokafka is made with."""
        return {"bootstrap_servers": self.bootstrap, **self.security}
