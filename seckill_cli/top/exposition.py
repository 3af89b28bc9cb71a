"""Reads what services export for Prometheus, as far as one sale is concerned."""

import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Series

TIMEOUT_S = 2.0
PATH = "/metrics"
GATEWAY = "seckill.v1.GatewayService"
PURCHASE = "Purchase"
# Statuses of a purchase that is neither answered nor refused on purpose.
FAULTS = frozenset({"Internal", "Unknown", "Unavailable", "DeadlineExceeded", "DataLoss"})
SHED = "ResourceExhausted"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Counters and gauges of all services that were read, added up over replicas.

    Attributes:
        outcomes: attempts answered, by outcome, since the gateways started.
        shed: attempts refused as overload, or by a limit.
        faults: attempts that failed.
        latencies: upper bound in seconds → purchases that took no longer.
        outbox: reservations that Kafka does not have yet.
        outbox_age_s: age of the oldest of them.
        lag: reservation events that are not orders yet.
        due: orders that rollback has to settle.
        edge_shed_share: of the purchases, what Envoy refuses; 0 to 1.
        restored: units returned to stock since the rollbacks started, of all sales.
        silent: addresses that did not answer.
    """

    outcomes: Mapping[str, float]
    shed: float
    faults: float
    latencies: Mapping[float, float]
    outbox: float
    outbox_age_s: float
    lag: float
    due: float
    edge_shed_share: float
    silent: tuple[str, ...] = ()


def url_of(address: str) -> str:
    """Return the URL of an address: host:port, or a URL of its own."""
    return address if "://" in address else f"http://{address}{PATH}"


def read(addresses: Iterable[str]) -> Exported:
    """Read all of them, one after the other; those that do not answer are named."""
    series: list[Series] = []
    silent: list[str] = []
    for address in addresses:
        try:
            series += _read(url_of(address))
        except (OSError, ValueError, HTTPException) as error:
            silent.append(f"{address}: {error}")
    return summarize(series, silent=silent)


def _read(url: str) -> list[Series]:
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no address of metrics")
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
        return list(parse(answer.read().decode()))


def parse(text: str) -> Iterator[Series]:
    """Yield the series of a text that a service exports; raises ValueError if it is none."""
    for family in text_string_to_metric_families(text):
        yield from family.samples


def summarize(series: Iterable[Series], *, silent: Iterable[str] = ()) -> Exported:
    """Add up what concerns a sale."""
    outcomes: dict[str, float] = {}
    codes: dict[str, float] = {}
    latencies: dict[float, float] = {}
    sums: dict[str, float] = {}
    highest: dict[str, float] = {}
    for one in series:
        if one.name == "seckill_attempts_total":
            outcome = one.labels["outcome"]
            outcomes[outcome] = outcomes.get(outcome, 0.0) + one.value
        elif one.labels.get("grpc_method") == PURCHASE and one.labels["grpc_service"] == GATEWAY:
            if one.name == "grpc_server_handled_total":
                code = one.labels["grpc_code"]
                codes[code] = codes.get(code, 0.0) + one.value
            elif one.name == "grpc_server_handling_seconds_bucket":
                bound = float(one.labels["le"])
                latencies[bound] = latencies.get(bound, 0.0) + one.value
        elif not one.labels:
            sums[one.name] = sums.get(one.name, 0.0) + one.value
            highest[one.name] = max(highest.get(one.name, 0.0), one.value)
    return Exported(
        outcomes=outcomes,
        shed=codes.get(SHED, 0.0),
        faults=sum(codes.get(code, 0.0) for code in FAULTS),
        latencies=dict(sorted(latencies.items())),
        # Every replica looks at all outboxes, and at the whole delay set; not so at partitions.
        outbox=highest.get("seckill_outbox_depth", 0.0),
        outbox_age_s=highest.get("seckill_outbox_oldest_age_seconds", 0.0),
        lag=sums.get("seckill_consumer_lag_messages", 0.0),
        due=highest.get("seckill_delay_due_orders", 0.0),
        edge_shed_share=highest.get("seckill_edge_shed_share", 0.0),
        silent=tuple(silent),
    )
