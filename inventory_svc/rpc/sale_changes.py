"""RPCs that change a sale: state, window, terms, added units."""

import structlog

from inventory_svc.rpc import requests
from inventory_svc.rpc.known_sales import Context, KnownSales, authorization_of
from inventory_svc.sales.fields import Changes, to_changes
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.sales.sync import SaleSync
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.settings import InventorySettings
from seckill.errors import DependencyUnavailable, InvalidField, SaleNotLoaded
from seckill.runtime.server import time_left_s
from seckill.v1 import inventory_pb2, order_pb2

log = structlog.get_logger()


class SaleChangeHandlers:
    """Changes a sale in Redis and on record."""

    def __init__(
        self,
        *,
        sales: Sales,
        sync: SaleSync,
        watch: SalesWatch,
        registry: SaleRegistry,
        known: KnownSales,
        settings: InventorySettings,
    ) -> None:
        self._sales = sales
        self._sync = sync
        self._watch = watch
        self._registry = registry
        self._known = known
        self._order_timeout_s = settings.inventory_order_timeout_s
        self._operator_timeout_s = settings.inventory_operator_timeout_s

    async def update(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> inventory_pb2.UpdateSaleResponse:
        """Handle UpdateSale."""
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
            await self._known.refuse_archived(sku, context)
            raise
        # In force first, then on record: a pause must not wait for the database.
        try:
            await self._watch.refresh([sku])
        except DependencyUnavailable as error:
            # It is in force, and the watch has notice of it.
            log.warning("changed sale not read", sku=sku, error=str(error))
        await self._sync.put_on_record(
            sku,
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        return inventory_pb2.UpdateSaleResponse(sale=sale)

    async def add_stock(
        self, request: inventory_pb2.AddStockRequest, context: Context
    ) -> inventory_pb2.AddStockResponse:
        """Handle AddStock."""
        requests.check_addition(request)
        # On record first: Redis never has more units than the database lets it sell.
        addition = await self._registry.add_units(
            order_pb2.AddUnitsRequest(
                sku=request.sku, addition_id=request.addition_id, units=request.units
            ),
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        await self._sync.apply(addition.sale)
        sale = await self._known.loaded(request.sku)
        await self._watch.refresh([request.sku])
        return inventory_pb2.AddStockResponse(sale=sale, added=addition.added)

    async def sync(
        self, request: inventory_pb2.SyncSaleRequest, context: Context
    ) -> inventory_pb2.SyncSaleResponse:
        """Handle SyncSale."""
        requests.check_sku(request.sku)
        timeout_s = time_left_s(context, self._order_timeout_s)
        changed = await self._sync.sync(request.sku, timeout_s=timeout_s)
        sale = await self._known.loaded(request.sku)
        return inventory_pb2.SyncSaleResponse(sale=sale, changed=changed)

    async def _change_terms(
        self, request: inventory_pb2.UpdateSaleRequest, context: Context
    ) -> None:
        """Change title and price on record, then in Redis, unless the sale has begun."""
        sale = await self._known.loaded(request.sku)
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
            metadata=authorization_of(context),
            timeout_s=time_left_s(context, self._order_timeout_s),
        )
        await self._sync.apply(record)


def _changes_of(request: inventory_pb2.UpdateSaleRequest) -> Changes:
    return to_changes(
        state=request.state,
        start_time=request.start_time if request.HasField("start_time") else None,
        end_time=request.end_time if request.HasField("end_time") else None,
    )
