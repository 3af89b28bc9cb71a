"""RPCs of holds: list them, tell a buyer's story, make them agree with the database."""

from collections.abc import AsyncIterator

from inventory_svc.buckets.repair import Repairer
from inventory_svc.outbox.relay import Relay
from inventory_svc.rpc import requests
from inventory_svc.rpc.known_sales import Context, KnownSales
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.holds import HoldsReader
from inventory_svc.stock.stories import BuyerStories
from seckill.errors import SaleNotLoaded
from seckill.runtime.server import time_left_s
from seckill.v1 import inventory_pb2


class HoldHandlers:
    """Reads and repairs what Redis says that buyers hold."""

    def __init__(
        self,
        *,
        holds: HoldsReader,
        stories: BuyerStories,
        repairer: Repairer,
        sales: Sales,
        relay: Relay,
        known: KnownSales,
        redis_timeout_s: float,
    ) -> None:
        """`redis_timeout_s`: longest wait for Redis."""
        self._holds = holds
        self._stories = stories
        self._repairer = repairer
        self._sales = sales
        self._relay = relay
        self._known = known
        self._redis_timeout_s = redis_timeout_s

    async def list(
        self, request: inventory_pb2.ListHoldsRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        """Handle ListHolds."""
        requests.check_sku(request.sku)
        (sale,) = await self._sales.read([request.sku])
        if not sale.loaded:
            await self._known.refuse_archived(request.sku, context)
            raise SaleNotLoaded(metadata={"sku": request.sku})
        async for part in self._holds.read(request.sku):
            yield part

    async def explain(
        self, request: inventory_pb2.ExplainHoldsRequest
    ) -> inventory_pb2.ExplainHoldsResponse:
        """Handle ExplainHolds."""
        requests.check_explain(request)
        skus = [request.sku] if request.sku else await self._sales.skus()
        return inventory_pb2.ExplainHoldsResponse(
            events=await self._stories.of_buyer(request.user_id, skus)
        )

    async def repair(
        self, request: inventory_pb2.RepairHoldsRequest, context: Context
    ) -> inventory_pb2.RepairHoldsResponse:
        """Handle RepairHolds."""
        requests.check_repair(request)
        timeout_s = time_left_s(context, self._redis_timeout_s)
        response = await self._repairer.repair(request, timeout_s=timeout_s)
        if request.unsent:
            self._relay.wake(request.sku)
        return response
