"""Handles the RPCs that register sales and count their units."""

from typing import Any

import grpc
import structlog

from order_svc.rpc.operators import Gate
from order_svc.sales.model import terms_of
from order_svc.sales.repository import SaleRepository
from order_svc.sales.shadow import ShadowSales
from seckill.errors import InvalidField, SaleStateConflict
from seckill.shadow import check_shadow
from seckill.v1 import order_pb2, sale_pb2
from seckill.validation import Violations, check_terms

# Keeps price times quantity inside a bigint; the schema has the same bound.
UNIT_PRICE_MAX = 9_000_000_000_000_000
# A replica that would load such a sale as one of a single bucket would sell its units twice.
NEEDS_BUCKETS = "a sale of several buckets is loaded by replicas that know of buckets"
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class SaleHandlers:
    """Registers and counts sales, and removes shadow sales."""

    def __init__(self, sales: SaleRepository, shadows: ShadowSales, *, operators: Gate) -> None:
        """`operators`: decides who may remove shadow sales."""
        self._sales = sales
        self._shadows = shadows
        self._operators = operators

    async def register(
        self, request: order_pb2.RegisterSaleRequest
    ) -> order_pb2.RegisterSaleResponse:
        """Handle RegisterSale."""
        check_terms(request.terms)
        if request.terms.unit_price.minor_units > UNIT_PRICE_MAX:
            raise InvalidField(
                [("terms.unit_price.minor_units", f"must be at most {UNIT_PRICE_MAX}")]
            )
        if not request.loads_buckets and request.terms.buckets > 1:
            raise SaleStateConflict(NEEDS_BUCKETS)
        sale, created = await self._sales.register(request.terms)
        return order_pb2.RegisterSaleResponse(
            terms=terms_of(sale), epoch=sale["epoch"], created=created
        )

    async def totals(
        self, request: order_pb2.GetSaleTotalsRequest
    ) -> order_pb2.GetSaleTotalsResponse:
        """Handle GetSaleTotals."""
        check_sku(request.sku)
        return order_pb2.GetSaleTotalsResponse(**dict(await self._sales.totals(request.sku)))

    async def unpaid(
        self, request: order_pb2.GetUnpaidUnitsRequest
    ) -> order_pb2.GetUnpaidUnitsResponse:
        """Handle GetUnpaidUnits."""
        check_sku(request.sku)
        row = await self._sales.unpaid(request.sku)
        unpaid = sale_pb2.UnpaidUnits(units=row["units"])
        if row["last_expires_at"] is not None:
            unpaid.last_expire_time.FromDatetime(row["last_expires_at"])
        return order_pb2.GetUnpaidUnitsResponse(unpaid=unpaid)

    async def check_settled(
        self, request: order_pb2.CheckSaleSettledRequest, context: Context
    ) -> order_pb2.CheckSaleSettledResponse:
        """Handle CheckSaleSettled."""
        operator = await self._operators.admit(context)
        check_sku(request.sku)
        reasons = await self._sales.reasons_not_to_archive(request.sku)
        log.info("sale looked at for its archive", sku=request.sku, operator=operator, left=reasons)
        return order_pb2.CheckSaleSettledResponse(reasons=reasons)

    async def archive(
        self, request: order_pb2.RecordArchiveRequest, context: Context
    ) -> order_pb2.RecordArchiveResponse:
        """Handle RecordArchive."""
        operator = await self._operators.admit(context)
        check_sku(request.sku)
        recorded = await self._sales.archive(request.sku)
        if recorded:
            log.info("sale archived", sku=request.sku, operator=operator)
        return order_pb2.RecordArchiveResponse(recorded=recorded)

    async def remove_shadow(
        self, request: order_pb2.RemoveShadowSaleRequest, context: Context
    ) -> order_pb2.RemoveShadowSaleResponse:
        """Handle RemoveShadowSale."""
        operator = await self._operators.admit(context)
        check_shadow(request.sku)
        removed = await self._shadows.remove(request.sku)
        log.info("shadow sale removed", sku=request.sku, orders=removed, operator=operator)
        return order_pb2.RemoveShadowSaleResponse(removed_orders=removed)


def check_sku(sku: str) -> None:
    """Raise InvalidField unless this is a sku."""
    violations = Violations()
    violations.sku("sku", sku)
    violations.check()
