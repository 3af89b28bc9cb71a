"""Orders as rows and as messages."""

import math
from collections.abc import Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from order_svc.db.database import Row
from seckill.v1 import order_pb2, sale_pb2

STATES: Mapping[str, order_pb2.OrderState.ValueType] = {
    "pending": order_pb2.ORDER_STATE_PENDING,
    "paid": order_pb2.ORDER_STATE_PAID,
    "cancelled": order_pb2.ORDER_STATE_CANCELLED,
    "rejected": order_pb2.ORDER_STATE_REJECTED,
    "refunded": order_pb2.ORDER_STATE_REFUNDED,
}
STATUSES: Mapping[order_pb2.OrderState.ValueType, str] = {
    state: status for status, state in STATES.items()
}


def timestamp(when: datetime | None) -> Timestamp | None:
    """Return a moment as protobuf has it; None stays None."""
    if when is None:
        return None
    # FromDatetime takes twice as long.
    return Timestamp(seconds=math.floor(when.timestamp()), nanos=when.microsecond * 1000)


def order_of(row: Row) -> order_pb2.Order:
    """Return the Order of a row of `order_details`."""
    return order_pb2.Order(
        order_no=row["order_no"],
        sku=row["sku"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        quantity=row["quantity"],
        amount=sale_pb2.Money(currency=row["currency"], minor_units=row["amount_minor"]),
        state=STATES[row["status"]],
        create_time=timestamp(row["created_at"]),
        expire_time=timestamp(row["expires_at"]),
        pay_time=timestamp(row["paid_at"]),
        cancel_time=timestamp(row["cancelled_at"]),
        restore_time=timestamp(row["restored_at"]),
        payment_id=row["payment_id"] or "",
        refund_time=timestamp(row["refunded_at"]),
        refund_id=row["refund_id"] or "",
    )
