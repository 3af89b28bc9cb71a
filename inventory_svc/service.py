"""InventoryService: checks requests, asks stock, answers."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from inventory_svc import requests
from inventory_svc.holds import HoldsReader
from inventory_svc.kill_switch import KillSwitch
from inventory_svc.rebuild import Rebuilder
from inventory_svc.registry import SaleRegistry
from inventory_svc.relay import Relay
from inventory_svc.sales import Sales, to_fields
from inventory_svc.settings import InventorySettings
from inventory_svc.stock import Decisions, Stock
from inventory_svc.upkeep import StockUpkeep
from inventory_svc.watch import SalesWatch
from seckill.clock import Clock
from seckill.errors import InvalidField, KillSwitchOn, SaleNotFound, SaleNotLoaded
from seckill.server import time_left_s
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill.validation import SKU, decode_page_token, encode_page_token, page_size

Context = grpc.aio.ServicerContext[Any, Any]


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    """The contract of protos/seckill/v1/inventory.proto."""

    def __init__(
        self,
        *,
        stock: Stock,
        upkeep: StockUpkeep,
        rebuilder: Rebuilder,
        holds: HoldsReader,
        sales: Sales,
        kill_switch: KillSwitch,
        watch: SalesWatch,
        relay: Relay,
        registry: SaleRegistry,
        settings: InventorySettings,
        clock: Clock,
    ) -> None:
        """Wire it."""
        self._stock = stock
        self._upkeep = upkeep
        self._rebuilder = rebuilder
        self._holds = holds
        self._sales = sales
        self._kill_switch = kill_switch
        self._watch = watch
        self._relay = relay
        self._registry = registry
        self._redis_timeout_s = settings.redis_timeout_s
        self._order_timeout_s = settings.inventory_order_timeout_s
        self._rebuild_timeout_s = settings.inventory_rebuild_timeout_s
        self._clock = clock

    async def CreateSale(
        self, request: inventory_pb2.CreateSaleRequest, context: Context
    ) -> inventory_pb2.CreateSaleResponse:
        sku = request.terms.sku
        terms = requests.with_defaults(
            request.terms, start_default_ms=int(self._clock.now_s() * 1000)
        )
        if not request.terms.HasField("start_time"):
            # "At once" said again means the begin that it meant the first time.
            (existing,) = await self._sales.read([sku])
            if existing.loaded:
                terms.start_time.CopyFrom(existing.terms.start_time)
        registered = await self._registry.register(
            terms, timeout_s=time_left_s(context, self._order_timeout_s)
        )
        await self._sales.remember(sku)
        if registered.created:
            await self._upkeep.load(
                sku,
                to_fields(registered.terms),
                epoch=registered.epoch,
                units=registered.terms.total_units,
                timeout_s=time_left_s(context, self._redis_timeout_s),
            )
        sale = await self._loaded_sale(sku)
        await self._watch.refresh([sku])
        return inventory_pb2.CreateSaleResponse(sale=sale)

    async def UpdateSale(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> inventory_pb2.UpdateSaleResponse:
        requests.check_update(request)
        try:
            await self._sales.update(
                request.sku,
                state=request.state,
                start_time=request.start_time if request.HasField("start_time") else None,
                end_time=request.end_time if request.HasField("end_time") else None,
            )
        except SaleNotLoaded:
            await self._require_registered(request.sku, context)
            raise
        # In force first, then on record: a pause must not wait for the database.
        sale = await self._loaded_sale(request.sku)
        await self._watch.refresh([request.sku])
        record = await self._sales.record(request.sku)
        if record is not None and record.revision:
            timeout_s = time_left_s(context, self._order_timeout_s)
            await self._registry.record(record, timeout_s=timeout_s)
        return inventory_pb2.UpdateSaleResponse(sale=sale)

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        requests.check_sku(request.sku)
        (sale,) = await self._sales.read([request.sku])
        if not sale.loaded:
            await self._require_registered(request.sku, context)
        return inventory_pb2.GetSaleResponse(sale=sale)

    async def ListSales(
        self,
        request: inventory_pb2.ListSalesRequest,
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> inventory_pb2.ListSalesResponse:
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, SKU)
        skus = [sku for sku in await self._sales.skus() if sku > after]
        page = skus[:size]
        return inventory_pb2.ListSalesResponse(
            sales=await self._sales.read(page),
            next_page_token=encode_page_token(page[-1]) if len(skus) > size else "",
        )

    async def Reserve(
        self, request: inventory_pb2.ReserveRequest, context: Context
    ) -> inventory_pb2.ReserveResponse:
        requests.check_reserve(request)
        decisions = await self._reserve(request.sku, [request.item], context)
        if decisions.any_over_limit:
            raise InvalidField([("item.quantity", "is more than the sale's purchase limit")])
        return inventory_pb2.ReserveResponse(result=decisions.results[0])

    async def BatchReserve(
        self, request: inventory_pb2.BatchReserveRequest, context: Context
    ) -> inventory_pb2.BatchReserveResponse:
        requests.check_batch(request)
        decisions = await self._reserve(request.sku, request.items, context)
        return inventory_pb2.BatchReserveResponse(results=decisions.results)

    async def Release(
        self, request: inventory_pb2.ReleaseRequest, context: Context
    ) -> inventory_pb2.ReleaseResponse:
        requests.check_release(request)
        orders = [(item.order_no, item.user_id) for item in request.items]
        try:
            units = await self._stock.release(
                request.sku, orders, timeout_s=time_left_s(context, self._redis_timeout_s)
            )
        except SaleNotLoaded:
            await self._require_registered(request.sku, context)
            raise
        return inventory_pb2.ReleaseResponse(released_units=units)

    async def RebuildSale(
        self, request: inventory_pb2.RebuildSaleRequest, context: Context
    ) -> inventory_pb2.RebuildSaleResponse:
        requests.check_sku(request.sku)
        timeout_s = time_left_s(context, self._rebuild_timeout_s)
        await self._rebuilder.rebuild(request.sku, timeout_s=timeout_s)
        sale = await self._loaded_sale(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.RebuildSaleResponse(sale=sale)

    async def ListHolds(
        self, request: inventory_pb2.ListHoldsRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        requests.check_sku(request.sku)
        (sale,) = await self._sales.read([request.sku])
        if not sale.loaded:
            await self._require_registered(request.sku, context)
            raise SaleNotLoaded(metadata={"sku": request.sku})
        async for part in self._holds.read(request.sku):
            yield part

    async def RepairHolds(
        self, request: inventory_pb2.RepairHoldsRequest, context: Context
    ) -> inventory_pb2.RepairHoldsResponse:
        requests.check_repair(request)
        timeout_s = time_left_s(context, self._redis_timeout_s)
        response = await self._upkeep.repair(request, timeout_s=timeout_s)
        if request.unsent:
            self._relay.wake(request.sku)
        return response

    async def SetKillSwitch(
        self,
        request: inventory_pb2.SetKillSwitchRequest,
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> inventory_pb2.SetKillSwitchResponse:
        requests.check_kill_switch(request)
        if request.on:
            switch = await self._kill_switch.throw(reason=request.reason, now_s=self._clock.now_s())
        else:
            switch = await self._kill_switch.lift()
        await self._watch.refresh_switch()
        return inventory_pb2.SetKillSwitchResponse(kill_switch=switch)

    async def GetKillSwitch(
        self,
        request: inventory_pb2.GetKillSwitchRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> inventory_pb2.GetKillSwitchResponse:
        return inventory_pb2.GetKillSwitchResponse(kill_switch=await self._kill_switch.read())

    async def WatchSales(
        self,
        request: inventory_pb2.WatchSalesRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        async for response in self._watch.stream():
            yield response

    async def _reserve(
        self, sku: str, items: Sequence[inventory_pb2.ReserveItem], context: Context
    ) -> Decisions:
        # Gateways refuse before they ask; this is for those that have not heard of it yet.
        if await self._watch.halted():
            raise KillSwitchOn
        timeout_s = time_left_s(context, self._redis_timeout_s)
        try:
            decisions = await self._stock.reserve(sku, items, timeout_s=timeout_s)
        except SaleNotLoaded:
            await self._require_registered(sku, context)
            raise
        if decisions.any_reserved:
            self._relay.wake(sku)
        return decisions

    async def _loaded_sale(self, sku: str) -> sale_pb2.Sale:
        (sale,) = await self._sales.read([sku])
        if not sale.loaded:
            raise SaleNotLoaded(metadata={"sku": sku})
        return sale

    async def _require_registered(self, sku: str, context: Context) -> None:
        """Raises SaleNotFound unless the sale exists, in whoever's memory."""
        if self._watch.knows(sku) or await self._sales.known(sku):
            return
        timeout_s = time_left_s(context, self._order_timeout_s)
        if not await self._registry.registered(sku, timeout_s=timeout_s):
            raise SaleNotFound(metadata={"sku": sku})
