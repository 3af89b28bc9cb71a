"""What clients were told must be so: the rules that hold the history against the stores."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from seckill.order_no import made_at_s
from seckill.v1 import inventory_pb2
from tests.faults.facts import Facts
from tests.faults.history import Attempt, End, History

# What a request that was told RESERVED must not be told afterwards. (SOLD_OUT it may be told once:
# a gateway refuses whom it does not know as a holder yet.)
_CONTRADICTIONS = {
    inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED: "already purchased",
    inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED: "limit exceeded",
}


def sold_while_lost(history: History) -> Iterator[str]:
    """Numbers made and told while Redis had lost the sale."""
    for order_no in sorted(history.told):
        made_s = made_at_s(order_no)
        if any(begin_s < made_s < end_s for begin_s, end_s in history.done.lost):
            yield f"{order_no} was sold while the sale was lost"


def answered_twice(history: History) -> Iterator[str]:
    """Requests that got answers which contradict each other.

    A buyer who may buy again and does so is remembered with his last request (docs/adr/0004): of
    one who made another request that may have been granted, the earlier ones are not judged.
    """
    by_user: dict[str, dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for attempt in history.attempts:
        by_user[attempt.user_id][attempt.request_id].append(attempt)
    for user_id, requests in by_user.items():
        granted = [name for name, attempts in requests.items() if any(map(_granted, attempts))]
        if len(granted) == 1:
            for text in _contradictions(requests[granted[0]], history.done.forgotten):
                yield f"request {granted[0]} of {user_id} {text}"


def _granted(attempt: Attempt) -> bool:
    """Whether the attempt may have been granted."""
    return attempt.reserved or attempt.end in {End.UNKNOWN, End.OPEN}


def _contradictions(attempts: Sequence[Attempt], forgotten: Collection[str]) -> Iterator[str]:
    told = [attempt for attempt in attempts if attempt.reserved]
    numbers = {attempt.order_no for attempt in told}
    if not numbers or not numbers.isdisjoint(forgotten):
        return
    if len(numbers) > 1:
        yield f"was answered with {sorted(numbers)}"
    first_s = min(attempt.ended_s for attempt in told)
    for attempt in attempts:
        contradiction = _CONTRADICTIONS.get(attempt.outcome)
        if contradiction and attempt.began_s > first_s:
            yield f"was reserved, and then {contradiction}"


def lost(facts: Facts, history: History) -> Iterator[str]:
    """Whatever somebody was promised and does not have."""
    yield from _numbers(facts, history)
    if not history.done.rejecting:
        for row in facts.orders:
            if row.status == "rejected":
                yield f"{row.order_no} was promised and rejected, and nothing was wrong with Redis"
    yield from _effects_of_nothing(facts, history)
    yield from _payments(facts, history)
    yield from _endings(facts, history)


def _numbers(facts: Facts, history: History) -> Iterator[str]:
    """Order numbers that were told, and what they stand for."""
    rows = {row.order_no: row for row in facts.orders}
    for attempt in history.attempts:
        row = rows.get(attempt.order_no)
        if row is None:
            if attempt.reserved and attempt.order_no not in history.done.forgotten:
                yield f"{attempt.user_id} was told {attempt.order_no}, which no row has"
        elif row.user_id != attempt.user_id:
            yield f"{attempt.user_id} was told {attempt.order_no}, which is not his"
        elif attempt.reserved and row.quantity != attempt.quantity:
            yield f"{attempt.order_no} is not what {attempt.user_id} was promised"


def _endings(facts: Facts, history: History) -> Iterator[str]:
    """Confirmed cancellations and refunds."""
    rows = {row.order_no: row for row in facts.orders}
    for order_no in sorted(history.cancelled):
        if order_no not in rows or rows[order_no].status != "cancelled":
            yield f"the confirmed cancellation of {order_no} is not on its row"
    for order_no, restock in history.refunded.items():
        if order_no not in rows or rows[order_no].status != "refunded":
            yield f"the confirmed refund of {order_no} is not on its row"
        elif rows[order_no].returned != restock:
            yield f"the refunded {order_no} was {'' if restock else 'not '}to be restocked"


def _effects_of_nothing(facts: Facts, history: History) -> Iterator[str]:
    """Rows that nobody asked for, or that were refused each time somebody asked."""
    ends: dict[tuple[str, str], set[End]] = defaultdict(set)
    for attempt in history.attempts:
        ends[attempt.user_id, attempt.request_id].add(attempt.end)
    for row in facts.orders:
        known = ends.get((row.user_id, row.request_id))
        if known is None:
            yield f"nobody asked for {row.order_no} of {row.user_id}"
        elif known == {End.FAILED}:
            yield f"{row.user_id} was refused without effect, and has {row.order_no}"


def _payments(facts: Facts, history: History) -> Iterator[str]:
    rows = {row.order_no: row for row in facts.orders}
    for order_no, payment_id in history.paid.items():
        row = rows.get(order_no)
        if row is None or row.payment_id != payment_id:
            yield f"the confirmed payment {payment_id} of {order_no} is not on its row"
    payments = {row.payment_id for row in facts.orders}
    for payment_id, order_no in history.too_late.items():
        if payment_id not in facts.late_payments:
            yield f"the late payment {payment_id} of {order_no} is not on record"
        if payment_id in payments:
            yield f"the payment {payment_id} was refused as too late and paid {order_no}"
    for payment_id in sorted(history.mismatched & (payments | facts.late_payments)):
        yield f"the payment {payment_id} of a wrong amount is on record"
