"""OrderService as the registry of sales: what exists is decided there, not in Redis."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import grpc

from seckill.runtime.clock import Clock
from seckill.status import from_rpc_error
from seckill.v1 import order_pb2, order_pb2_grpc, sale_pb2
from seckill.validation import BATCH_MAX

ORDER_SERVICE = "seckill.v1.OrderService"
# Methods of OrderService that may be retried.
READS = ("GetSaleRecord", "ListOpenSales")
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
# How long an answer about an unknown sku is kept, and for how many skus.
ANSWER_TTL_S = 1.0
ANSWERS_MAX = 1_024


@contextmanager
def order_faults() -> Iterator[None]:
    """Turn a failed call of OrderService into the fault that it tells of."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service="order") from error


class SaleRegistry:
    """Registers sales, and tells an unknown sku from a sale that Redis has lost."""

    def __init__(
        self, stub: "order_pb2_grpc.OrderServiceAsyncStub", *, clock: Clock, timeout_s: float
    ) -> None:
        """`timeout_s`: longest wait for OrderService."""
        self._stub = stub
        self._clock = clock
        self._timeout_s = timeout_s
        # sku → (what is on record, until when that is kept).
        self._answers: dict[str, tuple[order_pb2.SaleRecord | None, float]] = {}

    async def register(
        self, terms: sale_pb2.SaleTerms, *, timeout_s: float
    ) -> order_pb2.RegisterSaleResponse:
        """Register a sale. Raises what OrderService answers, or DependencyUnavailable."""
        request = order_pb2.RegisterSaleRequest(terms=terms, loads_buckets=True)
        timeout_s = min(timeout_s, self._timeout_s)
        with order_faults():
            return await self._stub.RegisterSale(request, timeout=timeout_s)

    async def record(
        self, request: order_pb2.RecordSaleRequest, *, metadata: Metadata, timeout_s: float
    ) -> order_pb2.RecordSaleResponse:
        """Record what operators made of a sale. Raises what OrderService answers."""
        timeout_s = min(timeout_s, self._timeout_s)
        with order_faults():
            return await self._stub.RecordSale(request, metadata=metadata, timeout=timeout_s)

    async def add_units(
        self, request: order_pb2.AddUnitsRequest, *, metadata: Metadata, timeout_s: float
    ) -> order_pb2.AddUnitsResponse:
        """Add units for the operator of `metadata`. Raises what OrderService answers."""
        timeout_s = min(timeout_s, self._timeout_s)
        with order_faults():
            return await self._stub.AddUnits(request, metadata=metadata, timeout=timeout_s)

    async def change_terms(
        self, request: order_pb2.ChangeTermsRequest, *, metadata: Metadata, timeout_s: float
    ) -> order_pb2.SaleRecord:
        """Change title and price for the operator. Raises what OrderService answers."""
        timeout_s = min(timeout_s, self._timeout_s)
        with order_faults():
            answer = await self._stub.ChangeTerms(request, metadata=metadata, timeout=timeout_s)
        return answer.sale

    async def sale_record(self, sku: str, *, timeout_s: float) -> order_pb2.SaleRecord:
        """Return the sale as it is on record. Raises what OrderService answers."""
        request = order_pb2.GetSaleRecordRequest(sku=sku)
        timeout_s = min(timeout_s, self._timeout_s)
        with order_faults():
            return (await self._stub.GetSaleRecord(request, timeout=timeout_s)).sale

    async def open_sales(
        self, *, page_size: int, page_token: str, timeout_s: float
    ) -> order_pb2.ListOpenSalesResponse:
        """Return a page of the sales that may sell. Raises what OrderService answers."""
        request = order_pb2.ListOpenSalesRequest(page_size=page_size, page_token=page_token)
        with order_faults():
            return await self._stub.ListOpenSales(request, timeout=min(timeout_s, self._timeout_s))

    async def begin_rebuild(self, sku: str, *, timeout_s: float) -> order_pb2.BeginRebuildResponse:
        """Await the consumers, then raise the epoch. Raises what OrderService answers."""
        request = order_pb2.BeginRebuildRequest(sku=sku, loads_buckets=True)
        with order_faults():
            return await self._stub.BeginRebuild(request, timeout=timeout_s)

    async def snapshot(
        self, sku: str, *, timeout_s: float
    ) -> AsyncIterator[order_pb2.SnapshotSaleResponse]:
        """Yield the sale, then its orders in parts. Raises what OrderService answers."""
        request = order_pb2.SnapshotSaleRequest(sku=sku)
        with order_faults():
            async for part in self._stub.SnapshotSale(request, timeout=timeout_s):
                yield part

    async def remove_shadow(self, sku: str, *, metadata: Metadata, timeout_s: float) -> int:
        """Remove a shadow sale for the operator of `metadata`; return how many orders it had.

        Raises what OrderService answers.
        """
        request = order_pb2.RemoveShadowSaleRequest(sku=sku)
        with order_faults():
            answer = await self._stub.RemoveShadowSale(
                request, metadata=metadata, timeout=timeout_s
            )
        return answer.removed_orders

    async def check_settled(self, sku: str, *, metadata: Metadata, timeout_s: float) -> list[str]:
        """Return what is left to do for a sale, in words, for the operator of `metadata`.

        Raises what OrderService answers.
        """
        request = order_pb2.CheckSaleSettledRequest(sku=sku)
        with order_faults():
            answer = await self._stub.CheckSaleSettled(
                request, metadata=metadata, timeout=timeout_s
            )
        return list(answer.reasons)

    async def await_consumed(self, *, timeout_s: float) -> None:
        """Return once what Kafka has now is in the database. Raises what OrderService answers."""
        with order_faults():
            await self._stub.AwaitConsumed(order_pb2.AwaitConsumedRequest(), timeout=timeout_s)

    async def known_orders(self, order_nos: Sequence[str], *, timeout_s: float) -> set[str]:
        """Return those of the numbers that are orders, in any state.

        Raises what OrderService answers.
        """
        known: set[str] = set()
        for start in range(0, len(order_nos), BATCH_MAX):
            chunk = order_nos[start : start + BATCH_MAX]
            request = order_pb2.BatchGetOrdersRequest(order_nos=chunk)
            with order_faults():
                answer = await self._stub.BatchGetOrders(request, timeout=timeout_s)
            known |= {number for number, order in zip(chunk, answer.orders, strict=True) if order}
        return known

    async def record_archive(self, sku: str, *, metadata: Metadata, timeout_s: float) -> bool:
        """Put on record that a sale is archived, for the operator of `metadata`.

        Returns:
            Whether it was not so before. Raises what OrderService answers.
        """
        request = order_pb2.RecordArchiveRequest(sku=sku)
        with order_faults():
            answer = await self._stub.RecordArchive(request, metadata=metadata, timeout=timeout_s)
        self._answers.pop(sku, None)
        return answer.recorded

    async def look_up(
        self, sku: str, *, timeout_s: float, max_age_s: float = ANSWER_TTL_S
    ) -> order_pb2.SaleRecord | None:
        """Return what is on record of a sale, None if there is no such sale.

        A record without anything if OrderService does not answer: a caller that is told "not
        loaded" comes back, one that is told "not found" gives up.

        Args:
            max_age_s: how old an answer that was kept may be.
        """
        now_s = self._clock.monotonic_s()
        kept = self._answers.get(sku)
        if kept is not None and now_s < kept[1] - ANSWER_TTL_S + max_age_s:
            return kept[0]
        request = order_pb2.GetSaleRecordRequest(sku=sku)
        record: order_pb2.SaleRecord | None = order_pb2.SaleRecord()
        try:
            answer = await self._stub.GetSaleRecord(
                request, timeout=min(timeout_s, self._timeout_s)
            )
            record = answer.sale
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                record = None
        if len(self._answers) >= ANSWERS_MAX:
            self._answers.clear()
        # From before the question: what it tells may be as old.
        self._answers[sku] = (record, now_s + ANSWER_TTL_S)
        return record
