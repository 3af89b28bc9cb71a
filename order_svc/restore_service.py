"""The methods of OrderService by which rollback_svc ends orders and brings their units back."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from order_svc.database import Row
from order_svc.model import timestamp
from order_svc.repository import NO_LEASE
from order_svc.service import OrderServicer, check_numbers
from seckill.v1 import order_pb2
from seckill.validation import BATCH_MAX, PAGE_SIZE_DEFAULT, Violations

# What a replica claims and leaves behind waits for the end of the lease.
LEASE_MAX_S = 3_600
Context = grpc.aio.ServicerContext[Any, Any]


class RestoreServicer(OrderServicer):
    """Ends what nobody pays for, and keeps the list of units that must go back to stock."""

    async def CancelExpired(
        self, request: order_pb2.CancelExpiredRequest, _context: Context
    ) -> order_pb2.CancelExpiredResponse:
        check_numbers(request.order_nos)
        lease = _lease(request.lease) if request.HasField("lease") else NO_LEASE
        changes = await self._orders.cancel_expired(sorted(set(request.order_nos)), lease=lease)
        await self._changed(changes)
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

    async def ListUnrestored(
        self, request: order_pb2.ListUnrestoredRequest, _context: Context
    ) -> order_pb2.ListUnrestoredResponse:
        rows = await self._orders.unrestored(_limit(request.page_size))
        return order_pb2.ListUnrestoredResponse(orders=map(_unrestored, rows))

    async def ClaimUnrestored(
        self, request: order_pb2.ClaimUnrestoredRequest, _context: Context
    ) -> order_pb2.ClaimUnrestoredResponse:
        rows = await self._orders.claim_unrestored(
            _limit(request.page_size), lease=_lease(request.lease)
        )
        return order_pb2.ClaimUnrestoredResponse(orders=map(_unrestored, rows))

    async def ListExpired(
        self, request: order_pb2.ListExpiredRequest, _context: Context
    ) -> order_pb2.ListExpiredResponse:
        found = await self._orders.expired(
            _limit(request.page_size), overdue=_duration("overdue", request.overdue, least_s=0)
        )
        return order_pb2.ListExpiredResponse(order_nos=found)

    async def MarkRestored(
        self, request: order_pb2.MarkRestoredRequest, _context: Context
    ) -> order_pb2.MarkRestoredResponse:
        check_numbers(request.order_nos)
        marked = await self._orders.mark_restored(request.order_nos)
        if marked:
            await self._board.show(await self._orders.find(marked))
        return order_pb2.MarkRestoredResponse(marked=len(marked))


def _unrestored(row: Row) -> order_pb2.UnrestoredOrder:
    names: Sequence[str] = ("order_no", "sku", "user_id", "quantity")
    return order_pb2.UnrestoredOrder(**{name: row[name] for name in names})


def _lease(duration: Duration) -> timedelta:
    return _duration("lease", duration, least_s=0.001)


def _duration(field: str, duration: Duration, *, least_s: float) -> timedelta:
    violations = Violations()
    # Compared before it is converted: a timedelta does not hold all that a Duration may say.
    seconds = duration.seconds + duration.nanos / 1e9
    if not least_s <= seconds <= LEASE_MAX_S:
        violations.add(field, f"must be {least_s:g} s to {LEASE_MAX_S} s")
    violations.check()
    return timedelta(seconds=seconds)


def _limit(value: int) -> int:
    violations = Violations()
    violations.between("page_size", value, 0, BATCH_MAX)
    violations.check()
    return value or PAGE_SIZE_DEFAULT
