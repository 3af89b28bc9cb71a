"""Metrics of the gateway; those of its calls are in seckill.telemetry."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from gateway.buckets import Buckets
from seckill.v1 import inventory_pb2

_ATTEMPTS = Counter("seckill_attempts_total", "Purchases answered, by outcome.", ("outcome",))
_REFUSED_LOCALLY = Counter(
    "seckill_local_refusals_total", "Purchases answered without asking inventory.", ("outcome",)
)
_LIMITED = Counter(
    "seckill_limiter_refusals_total", "Calls refused by a token bucket.", ("bucket",)
)
_BUCKETS = Gauge("seckill_limiter_buckets_count", "Token buckets in memory.", ("bucket",))
JWT_VERIFICATIONS = Counter(
    "seckill_jwt_verifications_total", "JWTs verified, the dearest check; others were remembered."
)
SOLD_OUT_SALES = Gauge("seckill_sold_out_sales_count", "Sales whose sold-out flag is up.")
HALTED = Gauge("seckill_gateway_halted", "1 while the kill switch is on.")
SALES_STREAM_UP = Gauge("seckill_sales_stream_up", "1 while inventory tells of changes.")
BATCH_ITEMS = Histogram(
    "seckill_gateway_batch_items",
    "Calls in one call to another stage.",
    ("stage",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
BATCH_WAITING = Gauge(
    "seckill_gateway_batch_waiting_count", "Calls that wait for the next batch.", ("stage",)
)
BATCH_WAIT_SECONDS = Histogram(
    "seckill_gateway_batch_wait_seconds",
    "How long the first call of a batch waited for its turn.",
    ("stage",),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


def _by_outcome(counter: Counter) -> dict[int, Counter]:
    outcomes = inventory_pb2.PurchaseOutcome
    return {
        value: counter.labels(name.removeprefix("PURCHASE_OUTCOME_").lower())
        for name, value in outcomes.items()
        if value != inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
    }


_ATTEMPTS_BY_OUTCOME = _by_outcome(_ATTEMPTS)
_LOCAL_BY_OUTCOME = _by_outcome(_REFUSED_LOCALLY)


def count_attempts(outcomes: Mapping[int, int]) -> None:
    """Count answers: PurchaseOutcome → how many."""
    for outcome, count in outcomes.items():
        if outcome in _ATTEMPTS_BY_OUTCOME:
            _ATTEMPTS_BY_OUTCOME[outcome].inc(count)


def count_local_refusals(outcomes: Mapping[int, int]) -> None:
    """Count answers that inventory was not asked for; they are attempts too."""
    count_attempts(outcomes)
    for outcome, count in outcomes.items():
        _LOCAL_BY_OUTCOME[outcome].inc(count)


def watch_buckets(all_buckets: Iterable[Buckets]) -> None:
    """Let the metrics show how many of these are in memory; counted when they are scraped."""
    for buckets in all_buckets:
        _BUCKETS.labels(buckets.name).set_function(_tracked(buckets))


def _tracked(buckets: Buckets) -> Callable[[], float]:
    return lambda: buckets.tracked


def count_refusals(bucket: str) -> Callable[[], object]:
    """What to call at each refusal of the bucket."""
    return _LIMITED.labels(bucket).inc
