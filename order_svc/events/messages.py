"""Order events as messages for Kafka: CloudEvents in binary mode, an OrderEvent as the value."""

from collections.abc import Mapping
from datetime import UTC

from order_svc.db.database import Row
from order_svc.orders.model import order_of, timestamp
from order_svc.payments.model import reason_of
from order_svc.sales.model import change_of
from seckill.runtime.kafka_writer import Message
from seckill.v1 import events_pb2, sale_pb2

SOURCE = "/seckill/order_svc"
TOO_LATE, TO_REFUND = "payment_too_late", "payment_to_refund"
SALE_CHANGED = "sale_changed"
# Columns as they were at an event; the row may have changed since.
_REFUND = {"refunded_at": None, "refund_id": None}
_ENDS = {"paid_at": None, "payment_id": None, "cancelled_at": None, "cancel_reason": None}
_THEN: Mapping[str, Mapping[str, str | None]] = {
    "created": {"status": "pending", **_ENDS, **_REFUND},
    "paid": {"status": "paid", **_REFUND},
}
_TYPES = {
    name.removeprefix("ORDER_EVENT_TYPE_").lower(): value
    for name, value in events_pb2.OrderEventType.items()
}
_REASONS = {
    name.removeprefix("ORDER_END_REASON_").lower(): value
    for name, value in events_pb2.OrderEndReason.items()
}


def event_of(row: Row) -> events_pb2.OrderEvent:
    """Return the event of a row of take_events.sql, with the order or the change as it was then."""
    event = events_pb2.OrderEvent(
        sequence=row["event_id"],
        type=_TYPES[row["kind"]],
        event_time=timestamp(row["event_at"]),
    )
    if row["kind"] == SALE_CHANGED:
        event.sale_change.CopyFrom(change_of(row))
    elif row["order_no"] is None:
        event.order.order_no = row["event_order_no"]
    else:
        then = {**row, "restored_at": None, **_THEN.get(_state_before(row), {})}
        event.order.CopyFrom(order_of(then))
        if then["cancel_reason"] is not None:
            event.end_reason = _REASONS[then["cancel_reason"]]
    if row["owed_payment_id"] is not None:
        _add_payment(event, row)
    return event


def _add_payment(event: events_pb2.OrderEvent, row: Row) -> None:
    amount = sale_pb2.Money(currency=row["owed_currency"], minor_units=row["owed_amount_minor"])
    event.payment_to_refund.CopyFrom(
        events_pb2.PaymentToRefund(
            provider=row["owed_provider"],
            payment_id=row["owed_payment_id"],
            amount=amount,
            reason=reason_of(row["owed_reason"]),
        )
    )
    if row["kind"] == TOO_LATE:
        event.late_payment.CopyFrom(
            events_pb2.LatePayment(payment_id=row["owed_payment_id"], amount=amount)
        )


def _state_before(row: Row) -> str:
    """Return the kind of event that the order had reached; a payment owed back does not move it."""
    if row["kind"] not in (TOO_LATE, TO_REFUND):
        return str(row["kind"])
    steps = [("cancelled_at", "created"), ("paid_at", "created"), ("refunded_at", "paid")]
    if row["owed_reason"] == "already_paid":
        # The transaction that paid the order may have started later, and committed first.
        steps = steps[2:]
    for moved_at, before in steps:
        if row[moved_at] is not None and row[moved_at] > row["event_at"]:
            return before
    return ""


def attributes_of(row: Row) -> dict[str, str]:
    """Return the CloudEvents attributes of a row's event; sent again, it has the same id."""
    kind = row["kind"]
    identity = f"{row['event_order_no']}/{kind}"
    # Several payments for one order may be owed back.
    if kind == TOO_LATE:
        identity += f"/{row['owed_payment_id']}"
    elif kind == SALE_CHANGED:
        identity += f"/{row['change_id']}"
    elif kind == TO_REFUND:
        identity += f"/{row['owed_provider']}/{row['owed_payment_id']}"
    attributes = {
        "specversion": "1.0",
        "id": identity,
        "source": SOURCE,
        "type": f"seckill.order.{kind}.v1",
        "time": row["event_at"].astimezone(UTC).isoformat(),
    }
    if row["call_id"]:
        # An extension, whose name may have lower-case letters and digits only.
        attributes["callid"] = row["call_id"]
    return attributes


def message_of(row: Row) -> Message:
    """Return the message of a row of take_events.sql."""
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes_of(row).items()]
    headers.append(("content-type", b"application/protobuf"))
    return Message(row["event_order_no"].encode(), event_of(row).SerializeToString(), headers)
