"""What rows of list_story.sql say, in words. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
# Longest quotation of what others have written.
QUOTED_MAX = 300
_MOVES = {
    "reserved": "live: the units count as sold",
    "rejected": "never live: the database refused the reservation",
    "paid": "paid for",
    "cancelled": "no longer live: the units count as unsold",
    "restored": "back in stock in Redis",
    "refunded": "paid back: no longer live",
    "written_off": "paid back, and not sold again",
}
_ENDS = {
    "expired": "not paid in time",
    "buyer": "given up by the buyer",
    "no_stock": "no unit was left in the database",
    "duplicate": "the buyer had a live order of this sale",
    "invalid": "the reservation could not be written",
    "voided": "given back by an operator",
}


def sentence(kind: str, facts: Facts) -> tuple[str, str]:
    """Return what a row is about, in a word or two, and what it says."""
    return _SENTENCES[kind](facts)


def _units(facts: Facts) -> str:
    return f"{facts['quantity']} unit{'s' if facts['quantity'] > 1 else ''}"


def _money(facts: Facts) -> str:
    return f"{facts['amount_minor']} minor units of {facts['currency']}"


def _order(facts: Facts) -> tuple[str, str]:
    text = (
        f"{_units(facts)} for {_money(facts)}, of {facts['user_id']}, request id"
        f" {facts['request_id']}; now {facts['status']}"
    )
    if facts["status"] == "pending":
        text += f", to be paid until {facts['expires_at']}"
    return "order written", text


def _ledger(facts: Facts) -> tuple[str, str]:
    return f"ledger: {facts['kind']}", f"{_units(facts)} {_MOVES.get(facts['kind'], 'moved')}"


def _ended(facts: Facts) -> tuple[str, str]:
    return "ended", _ENDS.get(facts["reason"], str(facts["reason"]))


def _payment(facts: Facts) -> tuple[str, str]:
    what = f"{facts['provider']} took {_money(facts)}, payment {facts['payment_id']}"
    if facts["reason"] is None:
        return "payment", f"{what}: it paid the order"
    return "payment", f"{what}: it paid no order ({facts['reason']}), and is to be paid back"


def _refund(facts: Facts) -> tuple[str, str]:
    return "refund", f"{facts['provider']} {facts['payment_id']} paid back by {facts['refund_id']}"


def _void(facts: Facts) -> tuple[str, str]:
    return "voided", f"by {facts['operator'] or 'an operator'}: {facts['reason'][:QUOTED_MAX]}"


def _restore(facts: Facts) -> tuple[str, str]:
    text = f"{_units(facts)} must go back to stock"
    if facts["restored_at"]:
        return "to be restored", f"{text}; they were at {facts['restored_at']}"
    if facts["claimed_until"]:
        return "to be restored", f"{text}; a rollback has until {facts['claimed_until']} for it"
    return "to be restored", f"{text}, and are not there yet"


def _told(facts: Facts) -> tuple[str, str]:
    return "event waiting", f"{facts['kind']} is not in Kafka yet"


def _webhook(facts: Facts) -> tuple[str, str]:
    what = f"{facts['kind']} for {facts['endpoint']} (delivery {facts['id']})"
    if facts["dropped"] is not None:
        return "webhook", f"{what} was dropped: {facts['dropped'][:QUOTED_MAX]}"
    state = "was given up" if facts["dead"] else "waits"
    last = facts["answer"] or (facts["error"] or "")[:QUOTED_MAX] or "no answer"
    tried = f" after {facts['attempts']} attempts, the last: {last}" if facts["attempts"] else ""
    return "webhook", f"{what} {state}{tried}"


_SENTENCES: Mapping[str, Callable[[Facts], tuple[str, str]]] = {
    "order": _order,
    "ledger": _ledger,
    "ended": _ended,
    "payment": _payment,
    "refund": _refund,
    "void": _void,
    "restore": _restore,
    "event": _told,
    "webhook": _webhook,
}
