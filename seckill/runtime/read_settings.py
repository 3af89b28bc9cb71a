"""Settings of services that answer looks: which server of Redis they ask, and how old it may be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seckill.runtime.settings import CONFIG
from seckill.runtime.store_settings import RedisSettings


class ReadSettings(RedisSettings):
    """Whom order polls and looks at sales ask, in order and inventory alike."""

    model_config = CONFIG

    # Who answers order polls and looks at sales: primary, or replica: a replica as long as it is
    # known to be recent, else the primary. What decides anything, and every write, goes to the
    # primary always. Of order and inventory alike.
    redis_read_from: Literal["primary", "replica"] = "primary"
    # Oldest answer of a replica that is passed on. A payment or a cancellation is answered once no
    # replica can show what was before it, at most this much later.
    redis_read_staleness_ms: Annotated[int, Field(ge=50, le=5_000)] = 1_000
    # All replicas of a Redis that is no cluster, host:port, separated by commas; user, password and
    # TLS are those of SECKILL_REDIS_URL. Empty: the primary is asked who they are, and tells them
    # by the addresses that it sees.
    redis_replicas: Annotated[
        str, Field(pattern=r"^([^\s,/@]+:\d{1,5}(,[^\s,/@]+:\d{1,5})*)?$")
    ] = ""

    def replica_addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each replica that is named."""
        named = (one.rpartition(":") for one in self.redis_replicas.split(",") if one)
        return [(host.strip("[]"), int(port)) for host, _, port in named]

    @model_validator(mode="after")
    def _replicas_can_be_found(self) -> Self:
        if self.redis_cluster and self.redis_replicas:
            raise ValueError("SECKILL_REDIS_REPLICAS is not for a cluster, which tells them itself")
        by_socket = self.redis_url.get_secret_value().startswith("unix://")
        if self.redis_read_from == "replica" and by_socket:
            raise ValueError(
                "SECKILL_REDIS_READ_FROM=replica needs SECKILL_REDIS_URL to name a host"
            )
        return self
