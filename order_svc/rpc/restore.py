"""Handles the RPCs with which rollback_svc ends orders and returns their units."""

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from order_svc.db.database import Row
from order_svc.orders.model import timestamp
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import NO_LEASE, OrderRepository
from order_svc.rpc.orders import check_numbers
from seckill.v1 import order_pb2
from seckill.validation import BATCH_MAX, PAGE_SIZE_DEFAULT, Violations

# Why the mesh rejects an order that its buyer did nothing wrong with: they may try again.
REJECTED_BY_US = ("no_stock", "invalid")
# Work that a dead replica has claimed waits for the end of the lease.
LEASE_MAX_S = 3_600


class RestoreHandlers:
    """Cancels expired orders, and keeps the list of orders whose units must go back to stock."""

    def __init__(self, orders: OrderRepository, reader: OrderReader) -> None:
        self._orders = orders
        self._reader = reader

    async def cancel_expired(
        self, request: order_pb2.CancelExpiredRequest
    ) -> order_pb2.CancelExpiredResponse:
        """Handle CancelExpired."""
        check_numbers(request.order_nos)
        lease = _lease(request.lease) if request.HasField("lease") else NO_LEASE
        changes = await self._orders.cancel_expired(sorted(set(request.order_nos)), lease=lease)
        await self._reader.publish(changes)
        response = order_pb2.CancelExpiredResponse()
        for change in changes:
            order = change.order
            if change.claimed:
                response.claimed_order_nos.append(order["order_no"])
            elif order["status"] == "pending":
                response.pending.add(
                    order_no=order["order_no"], expire_time=timestamp(order["expires_at"])
                )
            elif order["returned"] and order["restored_at"] is None:
                response.unrestored.append(_unrestored(order))
            else:
                response.settled_order_nos.append(order["order_no"])
        return response

    async def list_unrestored(
        self, request: order_pb2.ListUnrestoredRequest
    ) -> order_pb2.ListUnrestoredResponse:
        """Handle ListUnrestored."""
        rows = await self._orders.unrestored(_limit(request.page_size))
        return order_pb2.ListUnrestoredResponse(orders=map(_unrestored, rows))

    async def claim_unrestored(
        self, request: order_pb2.ClaimUnrestoredRequest
    ) -> order_pb2.ClaimUnrestoredResponse:
        """Handle ClaimUnrestored."""
        rows = await self._orders.claim_unrestored(
            _limit(request.page_size), lease=_lease(request.lease)
        )
        return order_pb2.ClaimUnrestoredResponse(orders=map(_unrestored, rows))

    async def list_expired(
        self, request: order_pb2.ListExpiredRequest
    ) -> order_pb2.ListExpiredResponse:
        """Handle ListExpired."""
        found = await self._orders.expired(
            _limit(request.page_size), overdue=_duration("overdue", request.overdue, least_s=0)
        )
        return order_pb2.ListExpiredResponse(order_nos=found)

    async def mark_restored(
        self, request: order_pb2.MarkRestoredRequest
    ) -> order_pb2.MarkRestoredResponse:
        """Handle MarkRestored."""
        check_numbers(request.order_nos)
        marked = await self._orders.mark_restored(request.order_nos)
        if marked:
            await self._reader.show(await self._orders.find(marked))
        return order_pb2.MarkRestoredResponse(marked=len(marked))


def _unrestored(row: Row) -> order_pb2.UnrestoredOrder:
    names: Sequence[str] = ("order_no", "sku", "user_id", "quantity")
    return order_pb2.UnrestoredOrder(
        **{name: row[name] for name in names}, rejected=row["cancel_reason"] in REJECTED_BY_US
    )


def _lease(duration: Duration) -> timedelta:
    return _duration("lease", duration, least_s=0.001)


def _duration(field: str, duration: Duration, *, least_s: float) -> timedelta:
    violations = Violations()
    violations.duration(field, duration, least_s, LEASE_MAX_S)
    violations.check()
    return duration.ToTimedelta()


def _limit(value: int) -> int:
    violations = Violations()
    violations.between("page_size", value, 0, BATCH_MAX)
    violations.check()
    return value or PAGE_SIZE_DEFAULT
