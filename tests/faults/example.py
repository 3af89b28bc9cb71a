"""One small sale whose facts fit: what the tests of the checker spoil."""

from dataclasses import replace

from seckill.v1 import inventory_pb2
from tests.faults.facts import Facts, Hold, OrderRow
from tests.faults.history import History

LIVE_NO, PAID_NO, ENDED_NO = "1" * 26, "2" * 26, "3" * 26
ORDERS = (
    OrderRow(order_no=LIVE_NO, user_id="ann", request_id="a", status="pending"),
    OrderRow(order_no=PAID_NO, user_id="bob", request_id="b", status="paid", payment_id="p"),
    OrderRow(
        order_no=ENDED_NO,
        user_id="cid",
        request_id="c",
        status="cancelled",
        returned=True,
        restored=True,
    ),
)
LEDGER = (
    ("", "loaded", 3),
    (LIVE_NO, "reserved", 1),
    (PAID_NO, "reserved", 1),
    (ENDED_NO, "reserved", 1),
    (PAID_NO, "paid", 1),
    (ENDED_NO, "cancelled", 1),
    (ENDED_NO, "restored", 1),
)
RIGHT = Facts(
    total=3,
    sold=2,
    orders=ORDERS,
    ledger=LEDGER,
    late_payments=frozenset({"late"}),
    remaining=1,
    holds={
        "ann": Hold(order_no=LIVE_NO),
        "bob": Hold(order_no=PAID_NO),
        "cid": Hold(order_no=ENDED_NO, live=False),
    },
    backlog=0,
    unacknowledged=0,
    delayed=frozenset({LIVE_NO}),
    lag=0,
    dead_letters=0,
    events=frozenset(
        {
            (LIVE_NO, "created"),
            (PAID_NO, "created"),
            (PAID_NO, "paid"),
            (ENDED_NO, "created"),
            (ENDED_NO, "cancelled"),
            (ENDED_NO, "payment_too_late"),
        }
    ),
    shown={LIVE_NO: "pending", PAID_NO: "paid", ENDED_NO: "cancelled"},
)


def told() -> History:
    """What the three buyers saw, and one more who was sent away."""
    history = History()
    for row in ORDERS:
        attempt = history.invoke(row.user_id, row.request_id)
        attempt.answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, row.order_no)
    history.invoke("dan", "d").answered(inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT, "")
    history.paid[PAID_NO] = "p"
    history.too_late["late"] = ENDED_NO
    history.mismatched.add("wrong amount")
    history.cancelled.add(ENDED_NO)
    return history


def changed(number: int, **changes: object) -> Facts:
    """The right facts, except for one order."""
    rows = list(ORDERS)
    rows[number] = replace(rows[number], **changes)  # type: ignore[arg-type]
    return replace(RIGHT, orders=tuple(rows))
