"""Orders and sales as rows and as messages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from order_svc.database import Row
from seckill.v1 import events_pb2, order_pb2, sale_pb2
from seckill.validation import PAYMENT_WINDOW_DEFAULT_S

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


@dataclass(frozen=True)
class WrittenBatch:
    """What became of a batch of reservations.

    Attributes:
        fresh: reservations written by this call, with the status of their orders.
        sales: the terms of their sales, rows of lock_sales.sql by sku.
        found: orders that had been written before, rows of find_orders.sql.
        unknown: reservations of a sku that is not registered; nothing was written of them.
    """

    fresh: Sequence[tuple[events_pb2.OrderReserved, str]]
    sales: Mapping[str, Row]
    found: Sequence[Row]
    unknown: Sequence[events_pb2.OrderReserved]

    def expire_times_s(self) -> dict[str, float]:
        """Unix times in seconds until which the pending orders of the batch can be paid."""
        by_sku = {
            sku: (sale["written_at"] + sale["payment_window"]).timestamp()
            for sku, sale in self.sales.items()
        }
        times = {
            event.order_no: by_sku[event.sku] for event, status in self.fresh if status == "pending"
        }
        for row in self.found:
            if row["status"] == "pending":
                times[row["order_no"]] = row["expires_at"].timestamp()
        return times


def timestamp(when: datetime | None) -> Timestamp | None:
    """A moment as protobuf has it; None stays None."""
    if when is None:
        return None
    # FromDatetime takes twice as long.
    return Timestamp(seconds=math.floor(when.timestamp()), nanos=when.microsecond * 1000)


def order_of(row: Row) -> order_pb2.Order:
    """The message of a row of `order_details`."""
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


def encode_fresh(batch: WrittenBatch) -> list[tuple[str, str, bytes]]:
    """The orders written by a batch: (number, status, serialized Order) each.

    What the orders of one sale share is serialized once and appended: in protobuf's encoding,
    messages one after another are their union.
    """
    shared: dict[tuple[str, int, str], bytes] = {}
    encoded = []
    for event, status in batch.fresh:
        number, sku, quantity = event.order_no, event.sku, event.quantity
        tail = shared.get((sku, quantity, status))
        if tail is None:
            tail = _shared_part(batch.sales[sku], quantity=quantity, status=status)
            shared[sku, quantity, status] = tail
        head = order_pb2.Order(
            order_no=number,
            sku=sku,
            user_id=event.user_id,
            request_id=event.request_id,
            quantity=quantity,
        )
        encoded.append((number, status, head.SerializeToString() + tail))
    return encoded


def _shared_part(sale: Row, *, quantity: int, status: str) -> bytes:
    written_at = sale["written_at"]
    order = order_pb2.Order(
        amount=sale_pb2.Money(
            currency=sale["currency"], minor_units=sale["unit_price_minor"] * quantity
        ),
        state=STATES[status],
        create_time=timestamp(written_at),
        expire_time=timestamp(written_at + sale["payment_window"]),
        cancel_time=timestamp(written_at) if status == "rejected" else None,
    )
    return order.SerializeToString()


def sale_columns(terms: sale_pb2.SaleTerms) -> dict[str, Any]:
    """The columns of `sales` that hold these terms, defaults filled in, in statement order."""
    starts = terms.start_time if terms.HasField("start_time") else None
    window_s = float(PAYMENT_WINDOW_DEFAULT_S)
    if terms.HasField("payment_window"):
        window_s = terms.payment_window.ToNanoseconds() / 1e9
    return {
        "sku": terms.sku,
        "title": terms.title,
        "total": terms.total_units,
        "unit_price_minor": terms.unit_price.minor_units,
        "currency": terms.unit_price.currency,
        "purchase_limit": terms.purchase_limit or 1,
        "starts_at": starts.ToDatetime(UTC) if starts is not None else None,
        "ends_at": terms.end_time.ToDatetime(UTC),
        "payment_window": timedelta(seconds=window_s),
        "rebuy_allowed": terms.rebuy_allowed,
    }


def terms_of(row: Row) -> sale_pb2.SaleTerms:
    """The terms in a row of find_sale.sql."""
    terms = sale_pb2.SaleTerms(
        sku=row["sku"],
        title=row["title"],
        total_units=row["total"],
        unit_price=sale_pb2.Money(currency=row["currency"], minor_units=row["unit_price_minor"]),
        purchase_limit=row["purchase_limit"],
        start_time=timestamp(row["starts_at"]),
        end_time=timestamp(row["ends_at"]),
        rebuy_allowed=row["rebuy_allowed"],
    )
    terms.payment_window.FromTimedelta(row["payment_window"])
    return terms
