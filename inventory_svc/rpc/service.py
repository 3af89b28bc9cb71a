"""InventoryService: checks requests, and asks stock, sales and the rebuild."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import structlog

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.repair import Repairer
from inventory_svc.buckets.stock import BucketedStock
from inventory_svc.outbox.relay import Relay
from inventory_svc.rpc import requests
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.looks import SaleLooks, age_of
from inventory_svc.sales.rebuild import Rebuilder
from inventory_svc.sales.registry import ANSWER_TTL_S, Metadata, SaleRegistry
from inventory_svc.sales.sales import Changes, Sales, to_archived, to_changes
from inventory_svc.sales.sync import SaleSync
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.settings import InventorySettings
from inventory_svc.stock.holds import HoldsReader
from inventory_svc.stock.stock import Decisions, all_ended
from inventory_svc.stock.stories import BuyerStories
from seckill.errors import (
    REQUEST_CHANGES,
    DependencyUnavailable,
    InvalidField,
    KillSwitchOn,
    OutcomeUnknown,
    SaleNotFound,
    SaleNotLoaded,
    SaleStateConflict,
)
from seckill.runtime.clock import Clock
from seckill.runtime.redis_reads import PrimaryReads
from seckill.runtime.server import time_left_s
from seckill.shadow import check_shadow, is_shadow
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, sale_pb2
from seckill.validation import SKU, decode_page_token, encode_page_token, page_size

log = structlog.get_logger()
Context = grpc.aio.ServicerContext[Any, Any]


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    """The contract of protos/seckill/v1/inventory.proto."""

    def __init__(
        self,
        *,
        stock: BucketedStock,
        repairer: Repairer,
        rebuilder: Rebuilder,
        holds: HoldsReader,
        stories: BuyerStories,
        sales: Sales,
        looks: SaleLooks,
        sync: SaleSync,
        kill_switch: KillSwitch,
        watch: SalesWatch,
        relay: Relay,
        registry: SaleRegistry,
        layouts: Layouts,
        settings: InventorySettings,
        clock: Clock,
    ) -> None:
        self._stock = stock
        self._repairer = repairer
        self._rebuilder = rebuilder
        self._holds = holds
        self._stories = stories
        self._sales = sales
        self._looks = looks
        self._exact_looks = SaleLooks(sales, PrimaryReads())
        self._sync = sync
        self._kill_switch = kill_switch
        self._watch = watch
        self._relay = relay
        self._registry = registry
        self._layouts = layouts
        self._redis_timeout_s = settings.redis_timeout_s
        self._order_timeout_s = settings.inventory_order_timeout_s
        self._operator_timeout_s = settings.inventory_operator_timeout_s
        self._rebuild_timeout_s = settings.inventory_rebuild_timeout_s
        self._clock = clock

    async def CreateSale(
        self, request: inventory_pb2.CreateSaleRequest, context: Context
    ) -> inventory_pb2.CreateSaleResponse:
        sku = request.terms.sku
        terms = requests.with_defaults(request.terms)
        # Redis' clock, which opens and closes the sale.
        now_ms = await self._sales.now_ms(terms.sku)
        over = terms.end_time.ToMilliseconds() <= now_ms
        # The terms of a sale that has ended may be sent again, and are answered with the sale.
        if over and not await self._is_registered(sku, context):
            raise InvalidField([("terms.end_time", "must be in the future")])
        registered = await self._registry.register(
            terms, timeout_s=time_left_s(context, self._order_timeout_s)
        )
        if (registered.terms.buckets or 1) != terms.buckets:
            # It is on record as a sale of one bucket, and is not loaded as another.
            raise SaleStateConflict("the order service is of a release that knows no buckets")
        if registered.created:
            await self._sales.remember(sku)
            await self._rebuilder.load_new(
                registered.terms,
                epoch=registered.epoch,
                now_ms=now_ms,
                timeout_s=time_left_s(context, self._redis_timeout_s),
            )
        else:
            (sale,) = await self._sales.read([sku])
            archived = None if sale.loaded else await self._find_archived(sku, context)
            if archived is not None:
                return inventory_pb2.CreateSaleResponse(sale=to_archived(archived))
            await self._sales.remember(sku)
            if not sale.loaded:
                # Redis has lost it, or the first call ended before it was loaded.
                timeout_s = time_left_s(context, self._rebuild_timeout_s)
                await self._rebuild_lost(sku, timeout_s=timeout_s)
        sale = await self._loaded_sale(sku)
        await self._watch.refresh([sku])
        return inventory_pb2.CreateSaleResponse(sale=sale)

    async def UpdateSale(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> inventory_pb2.UpdateSaleResponse:
        requests.check_update(request)
        sku, given = request.sku, _changes_of(request)
        try:
            if request.HasField("title") or request.HasField("unit_price"):
                await self._sales.require_updatable(
                    sku, given, timeout_s=time_left_s(context, self._operator_timeout_s)
                )
                await self._change_terms(request, context)
            sale = await self._sales.update(
                sku, given, timeout_s=time_left_s(context, self._operator_timeout_s)
            )
        except SaleNotLoaded:
            await self._refuse_archived(sku, context)
            raise
        # In force first, then on record: a pause must not wait for the database.
        try:
            await self._watch.refresh([sku])
        except DependencyUnavailable as error:
            # It is in force, and the watch has notice of it.
            log.warning("changed sale not read", sku=sku, error=str(error))
        await self._sync.put_on_record(
            sku,
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        return inventory_pb2.UpdateSaleResponse(sale=sale)

    async def AddStock(
        self, request: inventory_pb2.AddStockRequest, context: Context
    ) -> inventory_pb2.AddStockResponse:
        requests.check_addition(request)
        # On record first: Redis never has more units than the database lets it sell.
        addition = await self._registry.add_units(
            order_pb2.AddUnitsRequest(
                sku=request.sku, addition_id=request.addition_id, units=request.units
            ),
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        await self._sync.apply(addition.sale)
        sale = await self._loaded_sale(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.AddStockResponse(sale=sale, added=addition.added)

    async def SyncSale(
        self, request: inventory_pb2.SyncSaleRequest, context: Context
    ) -> inventory_pb2.SyncSaleResponse:
        requests.check_sku(request.sku)
        timeout_s = time_left_s(context, self._order_timeout_s)
        changed = await self._sync.sync(request.sku, timeout_s=timeout_s)
        sale = await self._loaded_sale(request.sku)
        return inventory_pb2.SyncSaleResponse(sale=sale, changed=changed)

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        requests.check_sku(request.sku)
        looks = self._looks if request.replica_allowed else self._exact_looks
        (sale,), age_s = await looks.read([request.sku])
        if not sale.loaded:
            archived = await self._find_archived(request.sku, context)
            sale = sale if archived is None else to_archived(archived)
        return inventory_pb2.GetSaleResponse(sale=sale, age=age_of(age_s))

    async def ListSales(
        self,
        request: inventory_pb2.ListSalesRequest,
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> inventory_pb2.ListSalesResponse:
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, SKU)
        looks = self._looks if request.replica_allowed else self._exact_looks
        members, listed_age_s = await looks.skus()
        skus = [sku for sku in members if sku > after and is_shadow(sku) is request.shadow]
        page = skus[:size]
        sales, age_s = await looks.read(page)
        return inventory_pb2.ListSalesResponse(
            sales=sales,
            next_page_token=encode_page_token(page[-1]) if len(skus) > size else "",
            age=age_of(listed_age_s, age_s),
        )

    async def RemoveShadowSale(
        self, request: inventory_pb2.InventoryServiceRemoveShadowSaleRequest, context: Context
    ) -> inventory_pb2.InventoryServiceRemoveShadowSaleResponse:
        check_shadow(request.sku)
        timeout_s = time_left_s(context, self._rebuild_timeout_s)
        await self._rebuilder.drain(request.sku, timeout_s=timeout_s)
        # Redis last: until then the sale is listed, and the call can be repeated.
        removed = await self._registry.remove_shadow(
            request.sku,
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._rebuild_timeout_s),
        )
        await self._sales.forget(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.InventoryServiceRemoveShadowSaleResponse(removed_orders=removed)

    async def ArchiveSale(
        self, request: inventory_pb2.ArchiveSaleRequest, context: Context
    ) -> inventory_pb2.ArchiveSaleResponse:
        sku = request.sku
        requests.check_sku(sku)
        # Also what an interrupted call has left, and a closed sale that Redis has lost.
        known = await self._sales.known(sku)
        if known:
            timeout_s = time_left_s(context, self._rebuild_timeout_s)
            await self._rebuilder.drain(sku, timeout_s=timeout_s)
        # A closed sale stays closed: what is settled now stays settled.
        reasons = await self._registry.check_settled(
            sku,
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._rebuild_timeout_s),
        )
        if reasons:
            raise SaleStateConflict(f"it cannot be archived: {'; '.join(reasons)}")
        # On record first: from then on what Redis lacks of it is not lost.
        recorded = await self._registry.record_archive(
            sku,
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        if known:
            await self._sales.forget(sku)
            await self._watch.refresh([sku])
        return inventory_pb2.ArchiveSaleResponse(archived=known or recorded)

    async def Reserve(
        self, request: inventory_pb2.ReserveRequest, context: Context
    ) -> inventory_pb2.ReserveResponse:
        requests.check_reserve(request)
        decisions = await self._reserve(request.sku, [request.item], context)
        (result,) = decisions.results
        if result.outcome in REQUEST_CHANGES:
            field, problem = REQUEST_CHANGES[result.outcome]
            raise InvalidField([("sku" if field == "sku" else f"item.{field}", problem)])
        if decisions.any_over_limit:
            raise InvalidField([("item.quantity", "is more than the sale's purchase limit")])
        return inventory_pb2.ReserveResponse(result=result)

    async def BatchReserve(
        self, request: inventory_pb2.BatchReserveRequest, context: Context
    ) -> inventory_pb2.BatchReserveResponse:
        requests.check_batch(request)
        decisions = await self._reserve(request.sku, request.items, context)
        return inventory_pb2.BatchReserveResponse(
            results=decisions.results, remaining_units=decisions.remaining_units
        )

    async def Release(
        self, request: inventory_pb2.ReleaseRequest, context: Context
    ) -> inventory_pb2.ReleaseResponse:
        requests.check_release(request)
        try:
            units = await self._stock.release(
                request.sku, request.items, timeout_s=time_left_s(context, self._redis_timeout_s)
            )
        except SaleNotLoaded:
            # Not an answer from before: a rebuild may have read the orders since.
            if await self._find_archived(request.sku, context, max_age_s=0.0) is None:
                raise
            units = [0] * len(request.items)
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

    async def ListLostSales(
        self, request: inventory_pb2.ListLostSalesRequest, context: Context
    ) -> inventory_pb2.ListLostSalesResponse:
        decode_page_token(request.page_token, SKU)
        page = await self._registry.open_sales(
            page_size=page_size(request.page_size),
            page_token=request.page_token,
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        # In a cluster these lists of all sales may be lost with a node that had none of them.
        await self._layouts.note(page.buckets)
        sales = await self._sales.read(page.skus)
        await self._sales.remember(*(sale.terms.sku for sale in sales if sale.loaded))
        return inventory_pb2.ListLostSalesResponse(
            skus=[sale.terms.sku for sale in sales if not sale.loaded],
            next_page_token=page.next_page_token,
        )

    async def ListHolds(
        self, request: inventory_pb2.ListHoldsRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        requests.check_sku(request.sku)
        (sale,) = await self._sales.read([request.sku])
        if not sale.loaded:
            await self._refuse_archived(request.sku, context)
            raise SaleNotLoaded(metadata={"sku": request.sku})
        async for part in self._holds.read(request.sku):
            yield part

    async def ExplainHolds(
        self,
        request: inventory_pb2.ExplainHoldsRequest,
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> inventory_pb2.ExplainHoldsResponse:
        requests.check_explain(request)
        skus = [request.sku] if request.sku else await self._sales.skus()
        return inventory_pb2.ExplainHoldsResponse(
            events=await self._stories.of_buyer(request.user_id, skus)
        )

    async def RepairHolds(
        self, request: inventory_pb2.RepairHoldsRequest, context: Context
    ) -> inventory_pb2.RepairHoldsResponse:
        requests.check_repair(request)
        timeout_s = time_left_s(context, self._redis_timeout_s)
        response = await self._repairer.repair(request, timeout_s=timeout_s)
        if request.unsent:
            self._relay.wake(request.sku)
        return response

    async def SetKillSwitch(
        self,
        request: inventory_pb2.SetKillSwitchRequest,
        context: Context,
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
            if await self._find_archived(sku, context) is None:
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

    async def _change_terms(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> None:
        """Change title and price on record, then in Redis, unless the sale has begun."""
        sale = await self._loaded_sale(request.sku)
        terms = order_pb2.ChangeTermsRequest(sku=request.sku)
        new: list[str] = []
        if request.HasField("title"):
            terms.title = request.title
            new += ["title"] if request.title != sale.terms.title else []
        if request.HasField("unit_price"):
            terms.unit_price.CopyFrom(request.unit_price)
            new += ["unit_price"] if request.unit_price != sale.terms.unit_price else []
        # Its orders may still be on their way to the database, which judges by those it has.
        if new and await self._sales.has_begun(request.sku):
            raise InvalidField([(field, requests.BEFORE_THE_START) for field in new])
        record = await self._registry.change_terms(
            terms,
            metadata=_authorization(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        await self._sync.apply(record)

    async def _rebuild_lost(self, sku: str, *, timeout_s: float) -> None:
        try:
            await self._rebuilder.rebuild(sku, timeout_s=timeout_s)
        except SaleStateConflict:
            log.info("sale loaded by another call", sku=sku)

    async def _loaded_sale(self, sku: str) -> sale_pb2.Sale:
        (sale,) = await self._sales.read([sku])
        if not sale.loaded:
            raise SaleNotLoaded(metadata={"sku": sku})
        return sale

    async def _refuse_archived(self, sku: str, context: Context) -> None:
        """Raise SaleStateConflict if a sale is archived; return if Redis has lost it.

        Raises SaleNotFound, too, if there is no such sale.
        """
        if await self._find_archived(sku, context) is not None:
            raise SaleStateConflict(
                "the sale is archived; a rebuild brings it back", metadata={"sku": sku}
            )

    async def _find_archived(
        self, sku: str, context: Context, *, max_age_s: float = ANSWER_TTL_S
    ) -> order_pb2.SaleRecord | None:
        """Return the record of a sale that is not loaded if it is archived, None if it is lost.

        `max_age_s`: how old that may be. Raises SaleNotFound if there is no such sale.
        """
        if await self._is_listed(sku):
            return None
        record = await self._registry.look_up(
            sku, timeout_s=time_left_s(context, self._order_timeout_s), max_age_s=max_age_s
        )
        if record is None:
            raise SaleNotFound(metadata={"sku": sku})
        return record if record.HasField("archive_time") else None

    async def _is_listed(self, sku: str) -> bool:
        """Return whether Redis has a sale, or has lost it."""
        return self._watch.knows(sku) or await self._sales.known(sku)

    async def _is_registered(self, sku: str, context: Context) -> bool:
        if await self._is_listed(sku):
            return True
        timeout_s = time_left_s(context, self._order_timeout_s)
        return await self._registry.look_up(sku, timeout_s=timeout_s) is not None


def _changes_of(request: inventory_pb2.UpdateSaleRequest) -> Changes:
    return to_changes(
        state=request.state,
        start_time=request.start_time if request.HasField("start_time") else None,
        end_time=request.end_time if request.HasField("end_time") else None,
    )


def _authorization(context: Context) -> Metadata:
    """The operator's JWT, which order_svc verifies and names them by."""
    metadata = context.invocation_metadata() or ()
    return [(key, value) for key, value in metadata if key == "authorization"]
