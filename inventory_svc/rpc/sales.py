"""RPCs of sales as a whole: create, read, rebuild, archive."""

import structlog

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.rpc import requests
from inventory_svc.rpc.known_sales import Context, KnownSales, authorization_of
from inventory_svc.sales.fields import to_archived
from inventory_svc.sales.looks import SaleLooks, age_of
from inventory_svc.sales.rebuild import Rebuilder
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.settings import InventorySettings
from seckill.errors import InvalidField, SaleStateConflict
from seckill.runtime.redis_reads import PrimaryReads
from seckill.runtime.server import time_left_s
from seckill.shadow import check_shadow, is_shadow
from seckill.v1 import inventory_pb2
from seckill.validation import SKU, decode_page_token, encode_page_token, page_size

log = structlog.get_logger()


class SaleHandlers:
    """Keeps what Redis has of sales together with what is on record of them."""

    def __init__(
        self,
        *,
        sales: Sales,
        looks: SaleLooks,
        rebuilder: Rebuilder,
        watch: SalesWatch,
        registry: SaleRegistry,
        layouts: Layouts,
        known: KnownSales,
        settings: InventorySettings,
    ) -> None:
        """`looks`: answers callers who allow a replica to."""
        self._sales = sales
        self._looks = looks
        self._exact_looks = SaleLooks(sales, PrimaryReads())
        self._rebuilder = rebuilder
        self._watch = watch
        self._registry = registry
        self._layouts = layouts
        self._known = known
        self._redis_timeout_s = settings.redis_timeout_s
        self._order_timeout_s = settings.inventory_order_timeout_s
        self._rebuild_timeout_s = settings.inventory_rebuild_timeout_s

    async def create(
        self, request: inventory_pb2.CreateSaleRequest, context: Context
    ) -> inventory_pb2.CreateSaleResponse:
        """Handle CreateSale."""
        sku = request.terms.sku
        terms = requests.with_defaults(request.terms)
        # Redis' clock, which opens and closes the sale.
        now_ms = await self._sales.now_ms(terms.sku)
        over = terms.end_time.ToMilliseconds() <= now_ms
        # The terms of a sale that has ended may be sent again, and are answered with the sale.
        if over and not await self._known.is_registered(sku, context):
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
            archived = None if sale.loaded else await self._known.find_archived(sku, context)
            if archived is not None:
                return inventory_pb2.CreateSaleResponse(sale=to_archived(archived))
            await self._sales.remember(sku)
            if not sale.loaded:
                # Redis has lost it, or the first call ended before it was loaded.
                timeout_s = time_left_s(context, self._rebuild_timeout_s)
                await self._rebuild_lost(sku, timeout_s=timeout_s)
        sale = await self._known.loaded(sku)
        await self._watch.refresh([sku])
        return inventory_pb2.CreateSaleResponse(sale=sale)

    async def get(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        """Handle GetSale."""
        requests.check_sku(request.sku)
        looks = self._looks if request.replica_allowed else self._exact_looks
        (sale,), age_s = await looks.read([request.sku])
        if not sale.loaded:
            archived = await self._known.find_archived(request.sku, context)
            sale = sale if archived is None else to_archived(archived)
        return inventory_pb2.GetSaleResponse(sale=sale, age=age_of(age_s))

    async def list(
        self, request: inventory_pb2.ListSalesRequest
    ) -> inventory_pb2.ListSalesResponse:
        """Handle ListSales."""
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

    async def remove_shadow(
        self, request: inventory_pb2.InventoryServiceRemoveShadowSaleRequest, context: Context
    ) -> inventory_pb2.InventoryServiceRemoveShadowSaleResponse:
        """Handle RemoveShadowSale."""
        check_shadow(request.sku)
        timeout_s = time_left_s(context, self._rebuild_timeout_s)
        await self._rebuilder.drain(request.sku, timeout_s=timeout_s)
        # Redis last: until then the sale is listed, and the call can be repeated.
        removed = await self._registry.remove_shadow(
            request.sku,
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._rebuild_timeout_s),
        )
        await self._sales.forget(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.InventoryServiceRemoveShadowSaleResponse(removed_orders=removed)

    async def archive(
        self, request: inventory_pb2.ArchiveSaleRequest, context: Context
    ) -> inventory_pb2.ArchiveSaleResponse:
        """Handle ArchiveSale."""
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
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._rebuild_timeout_s),
        )
        if reasons:
            raise SaleStateConflict(f"it cannot be archived: {'; '.join(reasons)}")
        # On record first: from then on what Redis lacks of it is not lost.
        recorded = await self._registry.record_archive(
            sku,
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        if known:
            await self._sales.forget(sku)
            await self._watch.refresh([sku])
        return inventory_pb2.ArchiveSaleResponse(archived=known or recorded)

    async def rebuild(
        self, request: inventory_pb2.RebuildSaleRequest, context: Context
    ) -> inventory_pb2.RebuildSaleResponse:
        """Handle RebuildSale."""
        requests.check_sku(request.sku)
        timeout_s = time_left_s(context, self._rebuild_timeout_s)
        await self._rebuilder.rebuild(request.sku, timeout_s=timeout_s)
        sale = await self._known.loaded(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.RebuildSaleResponse(sale=sale)

    async def list_lost(
        self, request: inventory_pb2.ListLostSalesRequest, context: Context
    ) -> inventory_pb2.ListLostSalesResponse:
        """Handle ListLostSales."""
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

    async def _rebuild_lost(self, sku: str, *, timeout_s: float) -> None:
        try:
            await self._rebuilder.rebuild(sku, timeout_s=timeout_s)
        except SaleStateConflict:
            log.info("sale loaded by another call", sku=sku)
