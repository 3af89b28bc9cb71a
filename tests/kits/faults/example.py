"""The facts and the history of one small sale, which fit; tests of the checker spoil them."""

import time
from dataclasses import replace

from seckill.client import Outcome
from seckill_cli.demo.buyer import Attempt
from tests.kits.faults.facts import Facts, Hold, OrderRow
from tests.kits.faults.history import History

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
    owed_payments=frozenset({"late", "wrong amount"}),
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


def attempt_of(
    user_id: str, request_id: str, outcome: Outcome | None = None, order_no: str = ""
) -> Attempt:
    """Return an attempt at one unit that ends now: answered, or abandoned without an outcome."""
    now_s = time.monotonic()
    return Attempt(
        user_id=user_id,
        sku="example",
        request_id=request_id,
        quantity=1,
        start_s=now_s,
        end_s=now_s,
        outcome=outcome,
        order_no=order_no,
        purchases=1,
    )


def history_of_three() -> History:
    """Return what the three buyers saw, and a fourth who was told that all is sold out."""
    history = History()
    for row in ORDERS:
        history.note(attempt_of(row.user_id, row.request_id, Outcome.RESERVED, row.order_no))
    history.note(attempt_of("dan", "d", Outcome.SOLD_OUT))
    history.paid[PAID_NO] = "p"
    history.too_late["late"] = ENDED_NO
    history.mismatched.add("wrong amount")
    history.cancelled.add(ENDED_NO)
    return history


def changed(number: int, **changes: object) -> Facts:
    """Return the right facts, except for one order."""
    rows = list(ORDERS)
    rows[number] = replace(rows[number], **changes)  # type: ignore[arg-type]
    return replace(RIGHT, orders=tuple(rows))
