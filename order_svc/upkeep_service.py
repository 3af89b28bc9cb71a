"""The methods of OrderService that other stages call to keep Redis in line with the database."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from order_svc.board import OrderBoard
from order_svc.pipeline import Pipeline
from order_svc.repository import OrderRepository
from order_svc.restore_service import RestoreServicer
from order_svc.sales import SaleRepository
from order_svc.settings import OrderSettings
from order_svc.upkeep import SALE_STATE_NAMES, SaleUpkeep
from seckill.clock import Clock
from seckill.server import time_left_s
from seckill.v1 import order_pb2
from seckill.validation import Violations

Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class UpkeepServicer(RestoreServicer):
    """OrderService whole: what buyers and operators need, and the upkeep of sales."""

    def __init__(
        self,
        *,
        settings: OrderSettings,
        sales: SaleRepository,
        orders: OrderRepository,
        board: OrderBoard,
        clock: Clock,
        upkeep: SaleUpkeep,
        pipeline: Pipeline,
    ) -> None:
        super().__init__(settings=settings, sales=sales, orders=orders, board=board, clock=clock)
        self._upkeep = upkeep
        self._pipeline = pipeline
        self._await_timeout_s = settings.order_await_timeout_s

    async def RecordSale(
        self, request: order_pb2.RecordSaleRequest, _context: Context
    ) -> order_pb2.RecordSaleResponse:
        violations = Violations()
        violations.sku("sku", request.sku)
        if request.state not in SALE_STATE_NAMES:
            violations.add("state", "is no state of a sale")
        if request.end_time.ToNanoseconds() <= request.start_time.ToNanoseconds():
            violations.add("end_time", "must be after start_time")
        if request.revision < 1:
            violations.add("revision", "must be at least 1")
        violations.check()
        return order_pb2.RecordSaleResponse(revision=await self._upkeep.record(request))

    async def AwaitConsumed(
        self, request: order_pb2.AwaitConsumedRequest, context: Context
    ) -> order_pb2.AwaitConsumedResponse:
        del request
        timeout_s = time_left_s(context, self._await_timeout_s)
        await self._pipeline.await_consumed(timeout_s=timeout_s)
        return order_pb2.AwaitConsumedResponse()

    async def BeginRebuild(
        self, request: order_pb2.BeginRebuildRequest, context: Context
    ) -> order_pb2.BeginRebuildResponse:
        _check_sku(request.sku)
        # An unknown sale is told apart before anybody waits.
        await self._upkeep.require(request.sku)
        timeout_s = time_left_s(context, self._await_timeout_s)
        await self._pipeline.await_consumed(timeout_s=timeout_s)
        epoch = await self._upkeep.raise_epoch(request.sku)
        log.info("epoch raised for a rebuild", sku=request.sku, epoch=epoch)
        return order_pb2.BeginRebuildResponse(epoch=epoch)

    async def SnapshotSale(
        self, request: order_pb2.SnapshotSaleRequest, _context: Context
    ) -> AsyncIterator[order_pb2.SnapshotSaleResponse]:
        _check_sku(request.sku)
        async with self._upkeep.snapshot(request.sku) as snapshot:
            yield order_pb2.SnapshotSaleResponse(sale=snapshot.sale)
            async for page in snapshot.pages:
                yield order_pb2.SnapshotSaleResponse(orders=page)


def _check_sku(sku: str) -> None:
    violations = Violations()
    violations.sku("sku", sku)
    violations.check()
