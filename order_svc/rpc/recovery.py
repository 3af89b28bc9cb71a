"""Handles the RPCs with which other services keep Redis in step with the database."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import structlog

from order_svc.intake.barrier import ConsumerBarrier
from order_svc.rpc.sales import NEEDS_BUCKETS, check_sku
from order_svc.sales.generation import Other, Store, StoreGeneration
from order_svc.sales.recovery import SaleRecovery
from seckill.errors import SaleStateConflict
from seckill.runtime.server import time_left_s
from seckill.v1 import order_pb2
from seckill.validation import (
    SKU,
    Violations,
    decode_page_token,
    encode_page_token,
    page_size,
)

REPLICATION_ID_MAX = 64
LEASE_MIN_S, LEASE_MAX_S = 0.1, 60.0
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class RecoveryHandlers:
    """Reads records, awaits the consumers, raises epochs, reads snapshots, confirms stores."""

    def __init__(
        self,
        recovery: SaleRecovery,
        generation: StoreGeneration,
        barrier: ConsumerBarrier,
        *,
        timeout_s: float,
    ) -> None:
        """`timeout_s`: longest wait for the consumers."""
        self._recovery = recovery
        self._generation = generation
        self._barrier = barrier
        self._timeout_s = timeout_s

    async def sale_record(
        self, request: order_pb2.GetSaleRecordRequest
    ) -> order_pb2.GetSaleRecordResponse:
        """Handle GetSaleRecord."""
        check_sku(request.sku)
        return order_pb2.GetSaleRecordResponse(sale=await self._recovery.record_of(request.sku))

    async def open_sales(
        self, request: order_pb2.ListOpenSalesRequest
    ) -> order_pb2.ListOpenSalesResponse:
        """Handle ListOpenSales."""
        limit = page_size(request.page_size)
        after = decode_page_token(request.page_token, SKU)
        sales = await self._recovery.open_sales(after=after, limit=limit + 1)
        skus = list(sales)[:limit]
        return order_pb2.ListOpenSalesResponse(
            skus=skus,
            next_page_token=encode_page_token(skus[-1]) if len(sales) > limit else "",
            buckets={sku: sales[sku] for sku in skus if sales[sku] > 1},
        )

    async def await_consumed(
        self, request: order_pb2.AwaitConsumedRequest, context: Context
    ) -> order_pb2.AwaitConsumedResponse:
        """Handle AwaitConsumed."""
        del request
        timeout_s = time_left_s(context, self._timeout_s)
        await self._barrier.await_consumed(timeout_s=timeout_s)
        return order_pb2.AwaitConsumedResponse()

    async def begin_rebuild(
        self, request: order_pb2.BeginRebuildRequest, context: Context
    ) -> order_pb2.BeginRebuildResponse:
        """Handle BeginRebuild."""
        check_sku(request.sku)
        # An unknown sale is refused before the wait.
        sale = await self._recovery.record_of(request.sku)
        if sale.terms.buckets > 1 and not request.loads_buckets:
            raise SaleStateConflict(NEEDS_BUCKETS)
        timeout_s = time_left_s(context, self._timeout_s)
        await self._barrier.await_consumed(timeout_s=timeout_s)
        epoch = await self._recovery.raise_epoch(request.sku)
        log.info("epoch raised for a rebuild", sku=request.sku, epoch=epoch)
        return order_pb2.BeginRebuildResponse(epoch=epoch)

    async def snapshot(
        self, request: order_pb2.SnapshotSaleRequest
    ) -> AsyncIterator[order_pb2.SnapshotSaleResponse]:
        """Handle SnapshotSale."""
        check_sku(request.sku)
        async with self._recovery.snapshot(request.sku) as snapshot:
            yield order_pb2.SnapshotSaleResponse(sale=snapshot.sale)
            async for page in snapshot.pages:
                yield order_pb2.SnapshotSaleResponse(orders=page)

    async def confirm_store(
        self, request: order_pb2.ConfirmStoreRequest
    ) -> order_pb2.ConfirmStoreResponse:
        """Handle ConfirmStore."""
        violations = Violations()
        violations.printable("replication_id", request.replication_id, REPLICATION_ID_MAX)
        violations.printable("run_id", request.run_id, REPLICATION_ID_MAX)
        if request.previous_replication_id:
            violations.printable(
                "previous_replication_id", request.previous_replication_id, REPLICATION_ID_MAX
            )
        for field in ("token", "mesh_id", "shard"):
            if value := getattr(request, field):
                violations.printable(field, value, REPLICATION_ID_MAX)
        violations.duration("lease", request.lease, LEASE_MIN_S, LEASE_MAX_S)
        violations.check()
        store = Store(
            replication_id=request.replication_id,
            previous_replication_id=request.previous_replication_id,
            run_id=request.run_id,
            token=request.token,
            mesh_id=request.mesh_id,
            empty=request.empty,
            shard=request.shard,
        )
        lease_s = request.lease.ToNanoseconds() / 1e9
        current = await self._generation.confirm(store, lease_s=lease_s)
        if isinstance(current, Other):
            return order_pb2.ConfirmStoreResponse(
                standing=(
                    order_pb2.STORE_STANDING_FOREIGN
                    if current.foreign
                    else order_pb2.STORE_STANDING_SUPERSEDED
                ),
                generation=current.generation,
            )
        response = order_pb2.ConfirmStoreResponse(
            standing=order_pb2.STORE_STANDING_CURRENT,
            generation=current.generation,
            token=current.token,
            mesh_id=current.mesh_id,
            discard=current.discard,
        )
        response.wait.FromTimedelta(timedelta(seconds=current.wait_s))
        return response
