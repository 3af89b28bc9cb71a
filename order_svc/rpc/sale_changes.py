"""Handles the RPCs about what operators change of a sale."""

import re
from typing import Any

import grpc
import structlog

from order_svc.rpc.operators import Gate
from order_svc.rpc.sales import check_sku
from order_svc.sales.changes import SaleChanges
from order_svc.sales.model import SALE_STATE_NAMES
from seckill.errors import SeckillError
from seckill.v1 import order_admin_pb2, order_pb2
from seckill.validation import (
    REQUEST_ID_MAX,
    TITLE_MAX,
    UNITS_MAX,
    Violations,
    decode_page_token,
    encode_page_token,
    page_size,
)

ID = re.compile(r"[0-9]{1,18}")
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class SaleChangeHandlers:
    """Adds units, changes terms, records state and window; lists what was changed."""

    def __init__(self, changes: SaleChanges, *, operators: Gate) -> None:
        """`operators`: tells who calls, and who may add units and change terms."""
        self._changes = changes
        self._operators = operators

    async def add_units(
        self, request: order_pb2.AddUnitsRequest, context: Context
    ) -> order_pb2.AddUnitsResponse:
        """Handle AddUnits."""
        operator = await self._operators.admit(context)
        violations = Violations()
        violations.sku("sku", request.sku)
        violations.printable("addition_id", request.addition_id, REQUEST_ID_MAX)
        violations.between("units", request.units, 1, UNITS_MAX)
        violations.check()
        response = await self._changes.add_units(request, operator=operator)
        if response.added:
            log.info("units added", sku=request.sku, units=request.units, operator=operator)
        return response

    async def change_terms(
        self, request: order_pb2.ChangeTermsRequest, context: Context
    ) -> order_pb2.ChangeTermsResponse:
        """Handle ChangeTerms."""
        operator = await self._operators.admit(context)
        violations = Violations()
        violations.sku("sku", request.sku)
        violations.text("title", request.title, TITLE_MAX)
        if request.HasField("unit_price"):
            violations.money("unit_price", request.unit_price)
        violations.check()
        sale = await self._changes.change_terms(request, operator=operator)
        log.info("terms on record", sku=request.sku, operator=operator)
        return order_pb2.ChangeTermsResponse(sale=sale)

    async def record_sale(
        self, request: order_pb2.RecordSaleRequest, context: Context
    ) -> order_pb2.RecordSaleResponse:
        """Handle RecordSale."""
        _check_record(request)
        return await self._changes.record(request, operator=await self._name_of(context))

    async def list(
        self, request: order_admin_pb2.ListSaleChangesRequest
    ) -> order_admin_pb2.ListSaleChangesResponse:
        """Handle ListSaleChanges."""
        check_sku(request.sku)
        limit = page_size(request.page_size)
        after = int(decode_page_token(request.page_token, ID) or 0)
        # One more than asked for tells whether there is a next page.
        changes = await self._changes.page(request.sku, after=after, limit=limit + 1)
        token = encode_page_token(str(changes[limit - 1].id)) if len(changes) > limit else ""
        return order_admin_pb2.ListSaleChangesResponse(
            changes=changes[:limit], next_page_token=token
        )

    async def _name_of(self, context: Context) -> str:
        """Return who calls, "" if that is not proven: what is in force is put on record anyway."""
        try:
            return await self._operators.admit(context)
        except SeckillError:
            return ""


def _check_record(request: order_pb2.RecordSaleRequest) -> None:
    violations = Violations()
    violations.sku("sku", request.sku)
    if request.state not in SALE_STATE_NAMES:
        violations.add("state", "is not a state of a sale")
    starts = violations.timestamp("start_time", request.start_time)
    ends = violations.timestamp("end_time", request.end_time)
    if starts and ends and request.end_time.ToNanoseconds() <= request.start_time.ToNanoseconds():
        violations.add("end_time", "must be after start_time")
    if request.revision < 1:
        violations.add("revision", "must be at least 1")
    violations.check()
