"""InventoryService: every RPC of the contract, and the group that handles it."""

from collections.abc import AsyncIterator

from inventory_svc.rpc import requests
from inventory_svc.rpc.attempts import AttemptHandlers
from inventory_svc.rpc.holds import HoldHandlers
from inventory_svc.rpc.known_sales import Context
from inventory_svc.rpc.sale_changes import SaleChangeHandlers
from inventory_svc.rpc.sales import SaleHandlers
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.watch import SalesWatch
from seckill.runtime.clock import Clock
from seckill.runtime.server import time_left_s
from seckill.v1 import inventory_pb2, inventory_pb2_grpc


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    """Hands each call to the group that handles it."""

    def __init__(
        self,
        *,
        attempts: AttemptHandlers,
        sales: SaleHandlers,
        changes: SaleChangeHandlers,
        holds: HoldHandlers,
        kill_switch: KillSwitch,
        watch: SalesWatch,
        clock: Clock,
        operator_timeout_s: float,
    ) -> None:
        """`operator_timeout_s`: longest wait for the kill switch."""
        self._attempts = attempts
        self._sales = sales
        self._changes = changes
        self._holds = holds
        self._kill_switch = kill_switch
        self._watch = watch
        self._clock = clock
        self._operator_timeout_s = operator_timeout_s

    async def CreateSale(
        self, request: inventory_pb2.CreateSaleRequest, context: Context
    ) -> inventory_pb2.CreateSaleResponse:
        return await self._sales.create(request, context)

    async def UpdateSale(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> inventory_pb2.UpdateSaleResponse:
        return await self._changes.update(request, context)

    async def AddStock(
        self, request: inventory_pb2.AddStockRequest, context: Context
    ) -> inventory_pb2.AddStockResponse:
        return await self._changes.add_stock(request, context)

    async def SyncSale(
        self, request: inventory_pb2.SyncSaleRequest, context: Context
    ) -> inventory_pb2.SyncSaleResponse:
        return await self._changes.sync(request, context)

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        return await self._sales.get(request, context)

    async def ListSales(
        self, request: inventory_pb2.ListSalesRequest, _context: Context
    ) -> inventory_pb2.ListSalesResponse:
        return await self._sales.list(request)

    async def RemoveShadowSale(
        self, request: inventory_pb2.InventoryServiceRemoveShadowSaleRequest, context: Context
    ) -> inventory_pb2.InventoryServiceRemoveShadowSaleResponse:
        return await self._sales.remove_shadow(request, context)

    async def ArchiveSale(
        self, request: inventory_pb2.ArchiveSaleRequest, context: Context
    ) -> inventory_pb2.ArchiveSaleResponse:
        return await self._sales.archive(request, context)

    async def Reserve(
        self, request: inventory_pb2.ReserveRequest, context: Context
    ) -> inventory_pb2.ReserveResponse:
        return await self._attempts.reserve(request, context)

    async def BatchReserve(
        self, request: inventory_pb2.BatchReserveRequest, context: Context
    ) -> inventory_pb2.BatchReserveResponse:
        return await self._attempts.reserve_batch(request, context)

    async def Release(
        self, request: inventory_pb2.ReleaseRequest, context: Context
    ) -> inventory_pb2.ReleaseResponse:
        return await self._attempts.release(request, context)

    async def RebuildSale(
        self, request: inventory_pb2.RebuildSaleRequest, context: Context
    ) -> inventory_pb2.RebuildSaleResponse:
        return await self._sales.rebuild(request, context)

    async def ListLostSales(
        self, request: inventory_pb2.ListLostSalesRequest, context: Context
    ) -> inventory_pb2.ListLostSalesResponse:
        return await self._sales.list_lost(request, context)

    async def ListHolds(
        self, request: inventory_pb2.ListHoldsRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        async for response in self._holds.list(request, context):
            yield response

    async def ExplainHolds(
        self, request: inventory_pb2.ExplainHoldsRequest, _context: Context
    ) -> inventory_pb2.ExplainHoldsResponse:
        return await self._holds.explain(request)

    async def RepairHolds(
        self, request: inventory_pb2.RepairHoldsRequest, context: Context
    ) -> inventory_pb2.RepairHoldsResponse:
        return await self._holds.repair(request, context)

    async def SetKillSwitch(
        self, request: inventory_pb2.SetKillSwitchRequest, context: Context
    ) -> inventory_pb2.SetKillSwitchResponse:
        requests.check_kill_switch(request)
        if request.on:
            switch = await self._kill_switch.enable(
                reason=request.reason,
                now_s=self._clock.now_s(),
                timeout_s=time_left_s(context, self._operator_timeout_s),
            )
        else:
            switch = await self._kill_switch.disable()
        self._watch.note_switch(switch)
        return inventory_pb2.SetKillSwitchResponse(kill_switch=switch)

    async def GetKillSwitch(
        self, _request: inventory_pb2.GetKillSwitchRequest, _context: Context
    ) -> inventory_pb2.GetKillSwitchResponse:
        return inventory_pb2.GetKillSwitchResponse(kill_switch=await self._kill_switch.read())

    async def WatchSales(
        self, _request: inventory_pb2.WatchSalesRequest, _context: Context
    ) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        async for response in self._watch.stream():
            yield response
