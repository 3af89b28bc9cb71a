"""A batch of reservation events once it is written, and its orders as the projection has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from order_svc.db.database import Row
from order_svc.orders.model import STATES, timestamp
from seckill.v1 import events_pb2, order_pb2, sale_pb2


@dataclass(frozen=True)
class WrittenBatch:
    """What became of a batch of reservation events.

    Attributes:
        fresh: events written by this call, with the status of their orders.
        sales: the terms of their sales, rows of lock_sales.sql by sku.
        found: orders that had been written before, rows of find_orders.sql.
        unknown: events of a sku that is not registered; nothing was written of them.
    """

    fresh: Sequence[tuple[events_pb2.OrderReserved, str]]
    sales: Mapping[str, Row]
    found: Sequence[Row]
    unknown: Sequence[events_pb2.OrderReserved]

    def expire_times_s(self) -> dict[str, float]:
        """Return until when each pending order of the batch can be paid, in Unix seconds."""
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


def encode_fresh(batch: WrittenBatch) -> list[tuple[str, str, bytes]]:
    """Return the orders that a batch has written: (number, status, serialized Order) each.

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
