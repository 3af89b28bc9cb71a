"""Metrics of the gateway; those of its calls are in seckill.runtime.telemetry."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from gateway.buckets import Buckets
from gateway.front.load import TimedAdmission
from seckill.v1 import inventory_pb2

ATTEMPTS_TOTAL = Counter("seckill_attempts_total", "Purchases answered, by outcome.", ("outcome",))
LOCAL_REFUSALS_TOTAL = Counter(
    "seckill_local_refusals_total", "Purchases answered without asking inventory.", ("outcome",)
)
LIMITER_REFUSALS_TOTAL = Counter(
    "seckill_limiter_refusals_total", "Calls refused by a token bucket.", ("bucket",)
)
ISSUES_UNSHARED_TOTAL = Counter(
    "seckill_issues_unshared_total",
    "Purchase tokens issued by this gateway's buckets alone, as Redis did not answer in time.",
)
GATE_DENIED_TOTAL = Counter(
    "seckill_gate_denied_total", "Calls refused by an operator's list, by what it names.", ("kind",)
)
LIMITER_BUCKETS_COUNT = Gauge(
    "seckill_limiter_buckets_count", "Token buckets in memory.", ("bucket",)
)
UNPAID_CAP_REFUSALS_TOTAL = Counter(
    "seckill_unpaid_cap_refusals_total",
    "Purchase tokens refused for too many unpaid orders, of the user or of the fingerprint.",
    ("whose",),
)
UNPAID_CAP_UNKNOWN_TOTAL = Counter(
    "seckill_unpaid_cap_unknown_total",
    "Buyers who passed the cap on unpaid orders because theirs could not be asked for.",
)
SIGHTINGS_DROPPED_TOTAL = Counter(
    "seckill_sightings_dropped_total",
    "Orders reserved of which it could not be told from where.",
)
GATEWAY_ADMISSION_FULL_TOTAL = Counter(
    "seckill_gateway_admission_full_total",
    "Purchases told to try again: enough attempts for what remains of the sale were under way.",
)
JWT_VERIFICATIONS_TOTAL = Counter(
    "seckill_jwt_verifications_total",
    "JWTs verified, the most expensive check; others were remembered.",
)
RISK_DECISIONS_TOTAL = Counter(
    "seckill_risk_decisions_total",
    "Decisions on callers for purchase tokens, by tier and the signal that contributed most.",
    ("tier", "signal"),
)
CHALLENGES_TOTAL = Counter(
    "seckill_challenges_total",
    "Challenges: set, solved, or with a solution that did not count (wrong, expired, spent,"
    " foreign).",
    ("outcome",),
)
RISK_TABLE_COUNT = Gauge(
    "seckill_risk_table_count", "Entries of the tables behind the risk.", ("table",)
)
GATEWAY_CALLS_IN_FLIGHT_COUNT = Gauge(
    "seckill_gateway_calls_in_flight_count", "Batched calls not answered yet."
)
GATEWAY_PREDICTED_WAIT_SECONDS = Gauge(
    "seckill_gateway_predicted_wait_seconds", "What a batched call that arrives now would wait."
)
GATEWAY_CONNECTIONS_COUNT = Gauge("seckill_gateway_connections_count", "Connections of callers.")
GATEWAY_CONNECTIONS_CLOSED_TOTAL = Counter(
    "seckill_gateway_connections_closed_total",
    "Connections that were closed by us, or asked to end.",
    ("reason",),
)
GATEWAY_SIEVED_TOTAL = Counter(
    "seckill_gateway_sieved_total", "Calls refused before their headers were decoded."
)
SOLD_OUT_SALES_COUNT = Gauge("seckill_sold_out_sales_count", "Sales whose sold-out flag is up.")
GATEWAY_HALTED = Gauge("seckill_gateway_halted", "1 while the kill switch is on.")
SALES_STREAM_UP = Gauge("seckill_sales_stream_up", "1 while inventory tells of changes.")
GATEWAY_RULES_REVISION = Gauge(
    "seckill_gateway_rules_revision", "Revision of the gate's rules in force; 0: none are known."
)
GATEWAY_RULES_STREAM_UP = Gauge(
    "seckill_gateway_rules_stream_up", "1 while the order service tells of the gate's rules."
)
GATEWAY_RULES_AGE_SECONDS = Gauge(
    "seckill_gateway_rules_age_seconds",
    "For how long the gate's rules in force could not be heard of; 0 while the stream is up.",
)
GATEWAY_BATCH_ITEMS = Histogram(
    "seckill_gateway_batch_items",
    "Calls in one call to another service.",
    ("service",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
GATEWAY_BATCH_WAITING_COUNT = Gauge(
    "seckill_gateway_batch_waiting_count", "Calls that wait for the next batch.", ("service",)
)
GATEWAY_BATCH_WAIT_SECONDS = Histogram(
    "seckill_gateway_batch_wait_seconds",
    "How long the first call of a batch waited for its turn.",
    ("service",),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


def _by_outcome(counter: Counter) -> dict[int, Counter]:
    outcomes = inventory_pb2.PurchaseOutcome
    return {
        value: counter.labels(name.removeprefix("PURCHASE_OUTCOME_").lower())
        for name, value in outcomes.items()
        if value != inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
    }


_DENIED_BY_KIND = {
    kind: GATE_DENIED_TOTAL.labels(kind) for kind in ("user", "network", "user_agent")
}
_ATTEMPTS_BY_OUTCOME = _by_outcome(ATTEMPTS_TOTAL)
_LOCAL_BY_OUTCOME = _by_outcome(LOCAL_REFUSALS_TOTAL)


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
        LIMITER_BUCKETS_COUNT.labels(buckets.name).set_function(_tracked(buckets))


def _tracked(buckets: Buckets) -> Callable[[], float]:
    return lambda: buckets.tracked


def watch_rules_age(age_s: Callable[[], float]) -> None:
    """Let the metrics show for how long no rules of the gate could be heard of."""
    GATEWAY_RULES_AGE_SECONDS.set_function(age_s)


def watch_size(table: str, size: Callable[[], int]) -> None:
    """Let the metrics show how many entries a table behind the risk has."""
    RISK_TABLE_COUNT.labels(table).set_function(size)


def count_risk_decision(tier: str, signal: str) -> None:
    """Count a decision; both labels are from closed sets (Tier, LEADING)."""
    RISK_DECISIONS_TOTAL.labels(tier, signal).inc()


def watch_load(admission: TimedAdmission) -> None:
    """Let the metrics show the calls in flight and the wait that is predicted for one more."""
    GATEWAY_CALLS_IN_FLIGHT_COUNT.set_function(lambda: admission.in_flight)
    GATEWAY_PREDICTED_WAIT_SECONDS.set_function(lambda: admission.wait_s)


def count_denied(kind: str) -> None:
    """Count a call that an operator's list refuses; `kind`: user, network or user_agent."""
    _DENIED_BY_KIND[kind].inc()


def count_refusals(bucket: str) -> Callable[[], object]:
    """What to call at each refusal of the bucket."""
    return LIMITER_REFUSALS_TOTAL.labels(bucket).inc
