"""OrderService as the registry of sales: what exists is decided there, not in Redis."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import grpc

from seckill.clock import Clock
from seckill.errors import from_rpc_error
from seckill.v1 import order_pb2, order_pb2_grpc, sale_pb2
from seckill.validation import BATCH_MAX

ORDER_SERVICE = "seckill.v1.OrderService"
# Methods of OrderService that may be retried.
READS = ("GetSaleTotals",)
# How long an answer about an unknown sku is taken for true, and for how many skus.
ANSWER_TTL_S = 1.0
ANSWERS_MAX = 1_024


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, stage="order") from error


class SaleRegistry:
    """Registers sales, and tells an unknown sku from a sale that Redis has lost."""

    def __init__(
        self, stub: "order_pb2_grpc.OrderServiceAsyncStub", *, clock: Clock, timeout_s: float
    ) -> None:
        """`timeout_s`: longest wait for OrderService."""
        self._stub = stub
        self._clock = clock
        self._timeout_s = timeout_s
        # sku → (whether it is registered, until when that is taken for true).
        self._answers: dict[str, tuple[bool, float]] = {}

    async def register(
        self, terms: sale_pb2.SaleTerms, *, timeout_s: float
    ) -> order_pb2.RegisterSaleResponse:
        """Register a sale. Raises what OrderService answers, or DependencyUnavailable."""
        request = order_pb2.RegisterSaleRequest(terms=terms)
        timeout_s = min(timeout_s, self._timeout_s)
        with _faults():
            return await self._stub.RegisterSale(request, timeout=timeout_s)

    async def record(self, request: order_pb2.RecordSaleRequest, *, timeout_s: float) -> None:
        """Keep what operators made of a sale. Raises what OrderService answers."""
        with _faults():
            await self._stub.RecordSale(request, timeout=min(timeout_s, self._timeout_s))

    async def begin_rebuild(self, sku: str, *, timeout_s: float) -> order_pb2.BeginRebuildResponse:
        """Await the consumers, then give the sale its next epoch. Raises what OrderService says."""
        request = order_pb2.BeginRebuildRequest(sku=sku)
        with _faults():
            return await self._stub.BeginRebuild(request, timeout=timeout_s)

    async def snapshot(
        self, sku: str, *, timeout_s: float
    ) -> AsyncIterator[order_pb2.SnapshotSaleResponse]:
        """The sale, then its orders in parts. Raises what OrderService says."""
        request = order_pb2.SnapshotSaleRequest(sku=sku)
        with _faults():
            async for part in self._stub.SnapshotSale(request, timeout=timeout_s):
                yield part

    async def await_consumed(self, *, timeout_s: float) -> None:
        """Return once what Kafka has now is in the database. Raises what OrderService says."""
        with _faults():
            await self._stub.AwaitConsumed(order_pb2.AwaitConsumedRequest(), timeout=timeout_s)

    async def known_orders(self, order_nos: Sequence[str], *, timeout_s: float) -> set[str]:
        """Those of the numbers that are orders, in whatever state.

        Raises what OrderService answers.
        """
        known: set[str] = set()
        for begin in range(0, len(order_nos), BATCH_MAX):
            chunk = order_nos[begin : begin + BATCH_MAX]
            request = order_pb2.BatchGetOrdersRequest(order_nos=chunk)
            with _faults():
                answer = await self._stub.BatchGetOrders(request, timeout=timeout_s)
            known |= {number for number, order in zip(chunk, answer.orders, strict=True) if order}
        return known

    async def registered(self, sku: str, *, timeout_s: float) -> bool:
        """Whether the sale exists; True where OrderService does not answer.

        A caller that is told "not loaded" comes back, one that is told "not found" gives up.
        """
        known = self._answers.get(sku)
        if known is not None and self._clock.monotonic_s() < known[1]:
            return known[0]
        request = order_pb2.GetSaleTotalsRequest(sku=sku)
        exists = True
        try:
            await self._stub.GetSaleTotals(request, timeout=min(timeout_s, self._timeout_s))
        except grpc.aio.AioRpcError as error:
            exists = error.code() is not grpc.StatusCode.NOT_FOUND
        if len(self._answers) >= ANSWERS_MAX:
            self._answers.clear()
        self._answers[sku] = (exists, self._clock.monotonic_s() + ANSWER_TTL_S)
        return exists
