"""Short campaigns made to provoke certain bugs: the workload and the fault that each needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from campaigns.soak.faults import FaultPlan
from campaigns.soak.plan import ActPlan, BuyerPlan, Plan, SalePlan

# Buyers of a scenario come within this many seconds.
SECONDS = 6.0
# An armed failpoint is reached much sooner; on a busy machine services need their time to start.
REACHED_S = 30.0


def _buyers(
    prefix: str, count: int, *, at_s: float = 0.2, every_s: float = 0.0, **plan: Any
) -> tuple[BuyerPlan, ...]:
    return tuple(
        BuyerPlan(name=f"{prefix}-{number}", sale=0, at_s=at_s + number * every_s, **plan)
        for number in range(count)
    )


def _plan(
    *buyers: Sequence[BuyerPlan],
    sale: SalePlan,
    faults: Sequence[FaultPlan] = (),
    acts: Sequence[ActPlan] = (),
    seconds: float = SECONDS,
    rebuilds: bool = True,
    reconciles: bool = False,
) -> Plan:
    """`reconciles`: most bugs would be mended by the reconciler before the checker finds them."""
    all_buyers = sorted((one for some in buyers for one in some), key=lambda buyer: buyer.at_s)
    return Plan(
        seed=0,
        seconds=seconds,
        sales=(sale,),
        buyers=all_buyers,
        acts=acts,
        faults=faults,
        rebuilds=rebuilds,
        reconciles=reconciles,
    )


# No faults: more buyers than units, who do all that buyers can do.
CROWD = _plan(
    _buyers("pays", 12, quantity=2, intent="pays", comes_back=True),
    _buyers("again", 6, attempts=4, intent="pays twice", door="inventory"),
    _buyers("late", 6, intent="pays late", after_s=2.6),
    _buyers("gives-up", 8, quantity=2, intent="cancels", comes_back=True),
    _buyers("waits", 10, quantity=2, at_s=0.4),
    _buyers("more", 60, at_s=0.6, every_s=0.03),
    _buyers("last", 25, at_s=5.0, every_s=0.02, intent="pays"),
    sale=SalePlan(name="crowd", units=70, limit=2, window_s=2.0),
)
# The same with units in buckets, which lend each other what their buyers need.
BUCKETS = replace(CROWD, sales=(replace(CROWD.sales[0], name="buckets", buckets=4),))
_ROLLBACKS = ("rollback", "rollback/b")
# Buyers who cancelled buy again, while rollback dies between giving units back and noting it, and
# so gives them back a second time.
REBUY = _plan(
    _buyers("returns", 20, intent="cancels", comes_back=True, door="inventory"),
    sale=SalePlan(name="rebuy", units=40, window_s=2.0, rebuy=True),
    faults=[
        FaultPlan(
            at_s=0.0,
            lasts_s=REACHED_S,
            kind="failpoint",
            target=rollback,
            detail="rollback.after_release:1:kill",
        )
        for rollback in _ROLLBACKS
    ],
)
_STEADY = _buyers("steady", 120, every_s=0.03, door="inventory")
_SLOW = SalePlan(name="slow", units=200, window_s=600.0)
_RELAYS = ("inventory", "inventory/b")
RELAY_DIES = _plan(
    _STEADY,
    sale=replace(_SLOW, name="relay-dies"),
    faults=[
        FaultPlan(
            at_s=0.0,
            lasts_s=5.0,
            kind="failpoint",
            target=relay,
            detail=f"relay.before_send:{nth}:kill",
        )
        for nth, relay in enumerate(_RELAYS, start=2)
    ],
)
KAFKA_AWAY = _plan(
    _STEADY,
    sale=replace(_SLOW, name="kafka-away"),
    faults=[FaultPlan(at_s=1.0, lasts_s=3.0, kind="kill store", target="kafka")],
    seconds=8.0,
)
_CONSUMERS = ("order", "order/b")
# The database stands still, and then both consumers die with batches in their hands.
CONSUMER_DIES = _plan(
    _STEADY,
    sale=replace(_SLOW, name="consumer-dies"),
    faults=[
        *(
            FaultPlan(at_s=1.0, lasts_s=3.2, kind="hold requests", target=f"{one}>postgres")
            for one in _CONSUMERS
        ),
        *(FaultPlan(at_s=3.8, lasts_s=0.5, kind="kill", target=one) for one in _CONSUMERS),
    ],
)
DATABASE_STANDS_STILL = _plan(
    _STEADY,
    sale=replace(_SLOW, name="database-still"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=6.0, kind="hold requests", target=f"{one}>postgres")
        for one in _CONSUMERS
    ],
    seconds=9.0,
)
# A consumer dies between the commit and the delay set, and its batch is read again. It raises
# rather than being killed, so that Kafka need not find out that it is gone.
CONSUMER_DIES_AFTER_COMMIT = _plan(
    _STEADY,
    sale=replace(_SLOW, name="after-commit"),
    faults=[
        FaultPlan(
            at_s=0.0,
            lasts_s=REACHED_S,
            kind="failpoint",
            target=one,
            detail="consumer.after_commit:1:raise",
        )
        for one in _CONSUMERS
    ],
    seconds=9.0,
)
_IMPATIENT = _buyers("leaves", 60, every_s=0.05, manner="leaves", timeout_s=1.5)
# Attempts are lost on their way to Redis, and their buyers do not repeat them.
REQUESTS_LOST = _plan(
    tuple(replace(one, door="inventory") for one in _IMPATIENT),
    sale=replace(_SLOW, name="requests-lost"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=0.4, kind="lose requests", target=f"{relay}>redis")
        for relay in _RELAYS
    ],
)
REPLIES_HELD = _plan(
    tuple(replace(one, door="inventory") for one in _IMPATIENT),
    sale=replace(_SLOW, name="replies-held"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=1.5, kind="hold replies", target=f"{relay}>redis")
        for relay in _RELAYS
    ],
)
ANSWERS_HELD = _plan(
    tuple(replace(one, timeout_s=4.0) for one in _IMPATIENT),
    sale=replace(_SLOW, name="answers-held"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=2.5, kind="hold replies", target=f"gateway>{relay}")
        for relay in _RELAYS
    ],
)
SALE_LOST = _plan(
    _buyers("before", 20, at_s=0.2),
    _buyers("after", 40, at_s=3.2, every_s=0.02),
    sale=replace(_SLOW, name="sale-lost"),
    faults=[FaultPlan(at_s=2.5, kind="lose sale", target="sale 0")],
    acts=[ActPlan(at_s=3.0, task="create again", sale=0)],
    rebuilds=False,
)
COUNTER_LOST = _plan(
    _buyers("before", 20, at_s=0.2),
    _buyers("after", 40, at_s=3.2, every_s=0.02),
    sale=replace(_SLOW, name="counter-lost"),
    faults=[FaultPlan(at_s=2.5, kind="lose stock key", target="sale 0")],
    rebuilds=False,
)
SALE_REBUILT = _plan(
    _buyers("before", 20, at_s=0.2, quantity=2),
    _buyers("after", 40, at_s=3.2, every_s=0.05),
    sale=replace(_SLOW, name="sale-rebuilt", limit=2),
    faults=[FaultPlan(at_s=2.5, kind="lose sale", target="sale 0")],
    seconds=8.0,
)
# The sale is rebuilt while the consumers cannot work.
REBUILT_BEHIND_THE_CONSUMERS = _plan(
    _buyers("before", 40, at_s=1.2, every_s=0.01),
    sale=replace(_SLOW, name="rebuilt-too-soon"),
    faults=[
        *(
            FaultPlan(at_s=0.8, lasts_s=7.0, kind="hold replies", target=f"{one}>kafka")
            for one in _CONSUMERS
        ),
        FaultPlan(at_s=3.0, kind="lose sale", target="sale 0"),
    ],
    seconds=9.0,
)
STOCK_RAISED = _plan(
    _buyers("rush", 60, at_s=0.6, every_s=0.02),
    sale=SalePlan(name="raised", units=20, window_s=600.0),
    faults=[FaultPlan(at_s=0.2, kind="raise stock", target="sale 0", detail="30")],
)
HOLDS_LOST = _plan(
    _buyers("forgotten", 20, intent="ignores", comes_back=True, after_s=2.0, door="inventory"),
    sale=replace(_SLOW, name="holds-lost"),
    faults=[FaultPlan(at_s=1.5, kind="lose holds", target="sale 0", detail="20")],
)
POISON = _plan(
    _STEADY,
    sale=replace(_SLOW, name="poison"),
    faults=[
        FaultPlan(at_s=1.0, kind="poison record", target="kafka", detail="3"),
        FaultPlan(at_s=1.5, kind="poison entry", target="sale 0"),
    ],
)
_DUE = SalePlan(name="due", units=40, window_s=1.5)
# Units are due while the service that takes them back, or the one that cancels, is away.
INVENTORY_AWAY = _plan(
    _buyers("waits", 30, at_s=0.2),
    sale=replace(_DUE, name="inventory-away"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=2.5, kind="drop", target=f"{rollback}>{relay}")
        for rollback in _ROLLBACKS
        for relay in _RELAYS
    ],
)
ORDER_AWAY = _plan(
    _buyers("waits", 30, at_s=0.2),
    sale=replace(_DUE, name="order-away"),
    faults=[
        FaultPlan(at_s=1.0, lasts_s=2.5, kind="drop", target=f"{rollback}>{order}")
        for rollback in _ROLLBACKS
        for order in _CONSUMERS
    ],
)

# What the broker has lost, before and after it was read, comes back only by the reconciler.
BROKER_LOG_CUT = _plan(
    _STEADY,
    sale=replace(_SLOW, name="broker-log-cut"),
    faults=[
        *(FaultPlan(at_s=1.5, lasts_s=2.0, kind="freeze", target=one) for one in _CONSUMERS),
        FaultPlan(at_s=3.0, lasts_s=0.5, kind="cut broker log", target="kafka", detail="0.2"),
    ],
    seconds=9.0,
    reconciles=True,
)
OUTBOX_TRIMMED = _plan(
    _buyers("burst", 60, at_s=1.5, door="inventory"),
    sale=replace(_SLOW, name="outbox-trimmed"),
    faults=[
        *(
            FaultPlan(at_s=1.0, lasts_s=2.0, kind="hold requests", target=f"{relay}>kafka")
            for relay in _RELAYS
        ),
        FaultPlan(at_s=1.4, lasts_s=1.4, kind="trim outbox", target="sale 0"),
    ],
    reconciles=True,
)
REDIS_FULL = _plan(
    _STEADY,
    sale=replace(_SLOW, name="redis-full"),
    faults=[FaultPlan(at_s=1.5, lasts_s=1.5, kind="fill redis", target="redis")],
)
REDIS_FAILED_OVER = _plan(
    _buyers("steady", 400, every_s=0.015, door="inventory"),
    sale=replace(_SLOW, name="redis-failed-over", units=500),
    faults=[FaultPlan(at_s=0.5, lasts_s=3.0, kind="fail over redis", target="redis")],
)
# One replica of inventory_svc stays with the old primary, which takes its writes and forgets them.
STALE_MASTER = _plan(
    _buyers("steady", 600, every_s=0.02, door="inventory"),
    sale=replace(_SLOW, name="stale-master", units=200),
    faults=[
        FaultPlan(
            at_s=0.5, lasts_s=6.0, kind="stale master", target="redis", detail="inventory/b>redis"
        )
    ],
    seconds=12.0,
)
ROLLED = _plan(
    _STEADY,
    sale=replace(_SLOW, name="rolled"),
    faults=[FaultPlan(at_s=1.0, kind="roll", target="all of inventory")],
)
STATED_AGAIN = _plan(
    _buyers("stated", 30, every_s=0.05, intent="is stated as paid again and again"),
    _buyers("late", 10, every_s=0.05, intent="is stated as paid late", after_s=2.6),
    sale=SalePlan(name="stated", units=60, window_s=2.0),
)

# Bug → the scenario that provokes it, and words of the sentence that must tell of it; "|" is
# between alternatives.
PLANTED: Mapping[str, tuple[Plan, str]] = {
    "stock-not-looked-at": (CROWD, "promised and rejected"),
    "units-counted-as-orders": (CROWD, "units too many"),
    "dedupe-forgotten": (CROWD, "has no hold in Redis"),
    "request-forgotten": (CROWD, "was reserved, and then already purchased"),
    "outbox-of-the-first": (CROWD, "which no row has"),
    "release-unmarked": (CROWD, "has no live order"),
    "release-keeps-the-units": (CROWD, "units too few"),
    "answer-of-the-neighbour": (CROWD, "which is another buyer's"),
    "cancel-without-compare": (CROWD, "the confirmed payment"),
    "pay-without-compare": (CROWD, "sales.sold says"),
    "late-payment-forgotten": (CROWD, "is not on record"),
    "ledger-row-forgotten": (CROWD, "the ledger has"),
    "cancel-keeps-sold": (CROWD, "sales.sold says"),
    "event-forgotten": (CROWD, "no event says that"),
    "released-and-not-noted": (CROWD, "never came back"),
    "lent-and-kept": (BUCKETS, "units too many|promised and rejected"),
    "taken-and-lost": (BUCKETS, "units too few"),
    "forgotten-before-cancelled": (ORDER_AWAY, "long after its time"),
    "release-blind": (REBUY, "units too many"),
    "xack-before-the-ack": (RELAY_DIES, "which no row has"),
    "never-claims": (RELAY_DIES, "never acknowledged"),
    "failed-send-dropped": (KAFKA_AWAY, "which no row has"),
    "commit-before-the-transaction": (CONSUMER_DIES, "which no row has"),
    "fault-skips-the-batch": (DATABASE_STANDS_STILL, "which no row has"),
    "delay-of-the-inserted-only": (CONSUMER_DIES_AFTER_COMMIT, "is not in the delay set"),
    # A few repeated messages become dead letters, many hold up all that come after them.
    "redelivery-refused": (
        CONSUMER_DIES_AFTER_COMMIT,
        "dead letters|which no row has|are not consumed",
    ),
    "lost-reply-is-a-promise": (REQUESTS_LOST, "which no row has"),
    "lost-reply-is-a-refusal": (REPLIES_HELD, "was refused without effect"),
    "lost-batch-is-a-refusal": (ANSWERS_HELD, "was refused without effect"),
    "reseed-empty-redis": (SALE_LOST, "units too many|has no hold in Redis"),
    "reseed-in-the-script": (COUNTER_LOST, "was sold while the sale was lost"),
    "rebuild-forgets-holds": (SALE_REBUILT, "has no hold in Redis"),
    "rebuild-with-all-units": (SALE_REBUILT, "units too many"),
    "rebuild-without-waiting": (REBUILT_BEHIND_THE_CONSUMERS, "units too many"),
    "sold-without-a-guard": (STOCK_RAISED, "were for sale"),
    "second-order-of-a-buyer": (HOLDS_LOST, "has 2 live orders"),
    "poison-swallowed": (POISON, "are no dead letters"),
    "noted-before-released": (INVENTORY_AWAY, "units too few"),
    "lost-reservations-left": (BROKER_LOG_CUT, "which no row has"),
    "resend-of-the-first": (OUTBOX_TRIMMED, "which no row has"),
    "refusal-is-a-promise": (REDIS_FULL, "which no row has"),
    "wrong-server-is-a-promise": (REDIS_FAILED_OVER, "which no row has"),
    "stale-store-trusted": (STALE_MASTER, "promised and rejected"),
    "outbox-in-memory": (ROLLED, "which no row has"),
    "payment-id-forgotten": (STATED_AGAIN, "was given a wrong fate"),
}
