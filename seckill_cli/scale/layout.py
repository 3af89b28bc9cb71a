"""How many processes a mesh has, which cores they have, and the bounds of their batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from seckill_cli.scale.costs import KAFKA, POSTGRES


@dataclass(frozen=True)
class Pool:
    """Cores that several stages share.

    Attributes:
        cores: how many.
        stages: which stages, each with the niceness of its processes.
    """

    cores: float
    stages: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of the services, by default those of their settings.

    Attributes:
        batch_max, batches_in_flight: of a gateway and a sale (SECKILL_GATEWAY_BATCH_MAX, …).
        beside_items, beside_wait_s: when a batch goes beside one in flight (gateway/batching.py).
        wait_share, wait_max_s, busy_calls, calls_max: admission by time (gateway/front/load.py);
            the share from which calls are refused undecoded.
        relay_max, relay_linger_s: reservations in a pass of a relay, and the pause after it.
        record_batch: reservations in a record batch, which goes to the next partition.
        partitions: of the topic.
        order_batch: reservations in a transaction.
        notice_s: until all gateways have heard that a sale is sold out.
    """

    batch_max: int = 512
    batches_in_flight: int = 2
    beside_items: int = 32
    beside_wait_s: float = 0.005
    wait_share: float = 0.7 * 0.2
    wait_max_s: float = 2.0
    busy_calls: int = 128
    calls_max: int = 10_000
    relay_max: int = 4_096
    relay_linger_s: float = 0.02
    record_batch: int = 1_024
    partitions: int = 12
    order_batch: int = 1_000
    notice_s: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Processes and cores.

    Attributes:
        replicas: stage → processes; one unless named, and no edge.
        cores: stage → cores that one process of it has for itself, one unless named.
        widths: stage → pieces of work that one process does at once.
        pools: cores that are shared; a stage is in one at most.
    """

    replicas: Mapping[str, int] = field(default_factory=dict)
    cores: Mapping[str, float] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=lambda: {POSTGRES: 8, KAFKA: 8})
    pools: tuple[Pool, ...] = ()
    limits: Limits = Limits()
