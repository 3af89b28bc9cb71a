"""RPCs of buyers' attempts: reserve units, and give them back."""

import asyncio
from collections.abc import Sequence

from inventory_svc.buckets.stock import BucketedStock
from inventory_svc.outbox.relay import Relay
from inventory_svc.rpc import requests
from inventory_svc.rpc.known_sales import KnownSales
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.stock.stock import Decisions, all_ended
from seckill.errors import (
    REQUEST_CHANGES,
    InvalidField,
    KillSwitchOn,
    OutcomeUnknown,
    SaleNotLoaded,
)
from seckill.runtime.server import Deadline, time_left_s
from seckill.v1 import inventory_pb2


class AttemptHandlers:
    """Decides attempts, and has the relay send what was reserved."""

    def __init__(
        self,
        *,
        stock: BucketedStock,
        relay: Relay,
        watch: SalesWatch,
        known: KnownSales,
        redis_timeout_s: float,
    ) -> None:
        """`redis_timeout_s`: longest wait for Redis."""
        self._stock = stock
        self._relay = relay
        self._watch = watch
        self._known = known
        self._redis_timeout_s = redis_timeout_s

    async def reserve(
        self, request: inventory_pb2.ReserveRequest, context: Deadline
    ) -> inventory_pb2.ReserveResponse:
        """Handle Reserve."""
        requests.check_reserve(request)
        decisions = await self._reserve(request.sku, [request.item], context)
        (result,) = decisions.results
        if result.outcome in REQUEST_CHANGES:
            field, problem = REQUEST_CHANGES[result.outcome]
            raise InvalidField([("sku" if field == "sku" else f"item.{field}", problem)])
        if decisions.any_over_limit:
            raise InvalidField([("item.quantity", "is more than the sale's purchase limit")])
        return inventory_pb2.ReserveResponse(result=result)

    async def reserve_batch(
        self, request: inventory_pb2.BatchReserveRequest, context: Deadline
    ) -> inventory_pb2.BatchReserveResponse:
        """Handle BatchReserve."""
        requests.check_batch(request)
        decisions = await self._reserve(request.sku, request.items, context)
        return inventory_pb2.BatchReserveResponse(
            results=decisions.results, remaining_units=decisions.remaining_units
        )

    async def release(
        self, request: inventory_pb2.ReleaseRequest, context: Deadline
    ) -> inventory_pb2.ReleaseResponse:
        """Handle Release."""
        requests.check_release(request)
        try:
            units = await self._stock.release(
                request.sku, request.items, timeout_s=time_left_s(context, self._redis_timeout_s)
            )
        except SaleNotLoaded:
            # Not an answer from before: a rebuild may have read the orders since.
            if await self._known.find_archived(request.sku, context, max_age_s=0.0) is None:
                raise
            units = [0] * len(request.items)
        return inventory_pb2.ReleaseResponse(released_units=units)

    async def _reserve(
        self, sku: str, items: Sequence[inventory_pb2.ReserveItem], context: Deadline
    ) -> Decisions:
        # Gateways refuse before they ask; this is for those that have not heard of it yet.
        if await self._watch.halted():
            raise KillSwitchOn
        timeout_s = time_left_s(context, self._redis_timeout_s)
        try:
            decisions = await self._stock.reserve(sku, items, timeout_s=timeout_s)
        except SaleNotLoaded:
            if await self._known.find_archived(sku, context) is None:
                raise
            return all_ended(len(items))
        except (OutcomeUnknown, asyncio.CancelledError):
            # It may have reserved. Of a sale that is not known the outbox is not to be created.
            if self._watch.knows(sku):
                self._relay.wake(sku)
            raise
        if decisions.any_reserved:
            self._relay.wake(sku)
        return decisions
