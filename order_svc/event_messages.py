"""Order events as messages for Kafka: CloudEvents in binary mode, an OrderEvent as the value."""

from collections.abc import Mapping
from datetime import UTC

from order_svc.database import Row
from order_svc.kafka_writer import Message
from order_svc.model import order_of, timestamp
from seckill.v1 import events_pb2, sale_pb2

SOURCE = "/seckill/order_svc"
# Columns as they were at an event, though the row may have moved on by now.
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
    """The event of a row of take_events.sql, the order as it was then."""
    kind = row["kind"]
    then = {**row, "restored_at": None, **_THEN.get(_stage(row), {})}
    event = events_pb2.OrderEvent(
        sequence=row["event_id"],
        type=_TYPES[kind],
        event_time=timestamp(row["event_at"]),
        order=order_of(then),
    )
    if then["cancel_reason"] is not None:
        event.end_reason = _REASONS[then["cancel_reason"]]
    if row["late_payment_id"] is not None:
        event.late_payment.payment_id = row["late_payment_id"]
        event.late_payment.amount.CopyFrom(
            sale_pb2.Money(currency=row["late_currency"], minor_units=row["late_amount_minor"])
        )
    return event


def _stage(row: Row) -> str:
    """Which event the order had come to, where the row's own does not move it: a late payment."""
    if row["kind"] != "payment_too_late":
        return str(row["kind"])
    for moved_at, before in (("cancelled_at", "created"), ("refunded_at", "paid")):
        if row[moved_at] is not None and row[moved_at] > row["event_at"]:
            return before
    return ""


def attributes_of(row: Row) -> dict[str, str]:
    """The CloudEvents attributes of a row's event; told again, it has the same id."""
    kind = row["kind"]
    identity = f"{row['order_no']}/{kind}"
    if row["late_payment_id"] is not None:
        # An order is paid too late as often as somebody pays.
        identity += f"/{row['late_payment_id']}"
    return {
        "specversion": "1.0",
        "id": identity,
        "source": SOURCE,
        "type": f"seckill.order.{kind}.v1",
        "time": row["event_at"].astimezone(UTC).isoformat(),
    }


def message_of(row: Row) -> Message:
    """The message of a row of take_events.sql."""
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes_of(row).items()]
    headers.append(("content-type", b"application/protobuf"))
    return Message(row["order_no"].encode(), event_of(row).SerializeToString(), headers)
