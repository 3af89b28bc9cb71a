"""The rules that compare what buyers were told with what the stores hold."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from seckill.client import Outcome
from seckill.order_no import made_at_s
from seckill_cli.demo.buyer import Attempt
from tests.kits.faults.facts import Facts
from tests.kits.faults.history import History, is_refused, is_reserved

# What a request that was told RESERVED must not be told afterwards. It may be told SOLD_OUT: a
# gateway which does not know yet that the buyer holds units refuses it.
_CONTRADICTIONS = {
    Outcome.ALREADY_PURCHASED: "already purchased",
    Outcome.LIMIT_EXCEEDED: "limit exceeded",
}


def sold_while_lost(history: History) -> Iterator[str]:
    """Yield orders that were made and promised while Redis had lost the sale."""
    for order_no in sorted(history.promised):
        made_s = made_at_s(order_no)
        if any(begin_s < made_s < end_s for begin_s, end_s in history.tampering.lost):
            yield f"{order_no} was sold while the sale was lost"


def answered_twice(history: History) -> Iterator[str]:
    """Yield requests that got answers which contradict each other.

    Redis remembers the last request of a buyer who buys again (docs/adr/0004): if more than one
    request of a buyer may have been granted, none of them is judged.
    """
    by_user: dict[str, dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for attempt in history.attempts:
        by_user[attempt.user_id][attempt.request_id].append(attempt)
    for user_id, requests in by_user.items():
        granted = [name for name, attempts in requests.items() if any(map(_granted, attempts))]
        if len(granted) == 1:
            for text in _contradictions(requests[granted[0]], history.tampering.forgotten):
                yield f"request {granted[0]} of {user_id} {text}"


def _granted(attempt: Attempt) -> bool:
    """Return whether the attempt, or a call that it repeated, may have been granted."""
    return is_reserved(attempt) or attempt.unknown or attempt.purchases > 1


def _contradictions(attempts: Sequence[Attempt], forgotten: Collection[str]) -> Iterator[str]:
    told = [attempt for attempt in attempts if is_reserved(attempt)]
    numbers = {attempt.order_no for attempt in told}
    if not numbers or not numbers.isdisjoint(forgotten):
        return
    if len(numbers) > 1:
        yield f"was answered with {sorted(numbers)}"
    first_s = min(attempt.end_s or 0.0 for attempt in told)
    for attempt in attempts:
        # When the call was sent that was answered.
        sent_s = (attempt.end_s or 0.0) - attempt.latency_s
        if attempt.outcome in _CONTRADICTIONS and sent_s > first_s:
            yield f"was reserved, and then {_CONTRADICTIONS[attempt.outcome]}"


def lost(facts: Facts, history: History) -> Iterator[str]:
    """Yield what buyers were promised and do not have."""
    yield from _numbers(facts, history)
    if not history.tampering.rejecting:
        for row in facts.orders:
            if row.status == "rejected":
                yield f"{row.order_no} was promised and rejected, and nothing was wrong with Redis"
    yield from _effects_of_nothing(facts, history)
    yield from _payments(facts, history)
    yield from _endings(facts, history)


def _numbers(facts: Facts, history: History) -> Iterator[str]:
    """Yield order numbers that do not stand for what their buyers were told."""
    rows = {row.order_no: row for row in facts.orders}
    for attempt in history.attempts:
        row = rows.get(attempt.order_no)
        if row is None:
            if is_reserved(attempt) and attempt.order_no not in history.tampering.forgotten:
                yield f"{attempt.user_id} was told {attempt.order_no}, which no row has"
        elif row.user_id != attempt.user_id:
            yield f"{attempt.user_id} was told {attempt.order_no}, which is another buyer's"
        elif is_reserved(attempt) and row.quantity != attempt.quantity:
            yield f"{attempt.order_no} is not what {attempt.user_id} was promised"


def _endings(facts: Facts, history: History) -> Iterator[str]:
    """Yield confirmed cancellations and refunds that are not on their rows."""
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
    """Yield rows of attempts that were not made, or were refused without effect."""
    by_request: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        by_request[attempt.user_id, attempt.request_id].append(attempt)
    for row in facts.orders:
        attempts = by_request.get((row.user_id, row.request_id))
        if attempts is None:
            yield f"no attempt led to {row.order_no} of {row.user_id}"
        elif all(map(is_refused, attempts)):
            yield f"{row.user_id} was refused without effect, and has {row.order_no}"


def _payments(facts: Facts, history: History) -> Iterator[str]:
    rows = {row.order_no: row for row in facts.orders}
    for order_no, payment_id in history.paid.items():
        row = rows.get(order_no)
        if row is None or row.payment_id != payment_id:
            yield f"the confirmed payment {payment_id} of {order_no} is not on its row"
    payments = {row.payment_id for row in facts.orders}
    for payment_id, order_no in history.too_late.items():
        if payment_id not in facts.owed_payments:
            yield f"the late payment {payment_id} of {order_no} is not on record"
        if payment_id in payments:
            yield f"the payment {payment_id} was refused as too late and paid {order_no}"
    for payment_id in sorted(history.mismatched & payments):
        yield f"the payment {payment_id} of a wrong amount has paid an order"
    for payment_id in sorted(history.mismatched - facts.owed_payments):
        yield f"the payment {payment_id} of a wrong amount is not on record"
