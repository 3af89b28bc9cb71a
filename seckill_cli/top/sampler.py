"""Samples one sale: what inventory and order answer about it, and what all services export."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc, sale_pb2
from seckill_cli.top import exposition
from seckill_cli.top.exposition import Exported

TIMEOUT_S = 2.0
# Samples kept: ten minutes at half a second.
SAMPLES_MAX = 1_200


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sale at one moment; None where a service did not answer.

    Attributes:
        at_s: Unix time.
        sale: as Redis has it.
        totals: as the database has it.
        problems: what could not be read, each with the reason.
    """

    at_s: float
    sale: sale_pb2.Sale | None
    totals: order_pb2.GetSaleTotalsResponse | None
    exported: Exported
    problems: tuple[str, ...] = ()


class Sampler:
    """Reads a sale again and again; a service that is away leaves a gap, and is named."""

    def __init__(
        self, *, inventory: grpc.aio.Channel, order: grpc.aio.Channel, metrics: Sequence[str]
    ) -> None:
        """`metrics`: addresses of the services' metrics; none are fine, and show less."""
        self._inventory = inventory_pb2_grpc.InventoryServiceStub(inventory)
        self._order = order_pb2_grpc.OrderServiceStub(order)
        self._metrics = metrics
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    async def take(self, sku: str) -> Sample:
        """Take a sample and keep it."""
        at_s = time.time()
        sale, totals, exported = await asyncio.gather(
            self._sale(sku), self._totals(sku), asyncio.to_thread(exposition.read, self._metrics)
        )
        answers = (sale, totals)
        sample = Sample(
            at_s=at_s,
            sale=sale if isinstance(sale, sale_pb2.Sale) else None,
            totals=totals if isinstance(totals, order_pb2.GetSaleTotalsResponse) else None,
            exported=exported,
            problems=(
                *(answer for answer in answers if isinstance(answer, str)),
                *exported.silent,
            ),
        )
        self.samples.append(sample)
        return sample

    async def latest_sku(self) -> str:
        """Return the sku of the sale that sells now and started last, else of the latest one.

        "" without any sale.

        Raises:
            grpc.aio.AioRpcError: inventory does not answer.
        """
        found: list[sale_pb2.Sale] = []
        request = inventory_pb2.ListSalesRequest(page_size=1_000)
        while True:
            page = await self._inventory.ListSales(request, timeout=TIMEOUT_S)
            found += page.sales
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        now_s = time.time()
        ranked = sorted(found, key=lambda sale: _rank(sale, now_s=now_s))
        return ranked[-1].terms.sku if ranked else ""

    async def _sale(self, sku: str) -> sale_pb2.Sale | str:
        try:
            answer = await self._inventory.GetSale(
                inventory_pb2.GetSaleRequest(sku=sku), timeout=TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            return f"inventory: {error.code().name}: {error.details()}"
        return answer.sale

    async def _totals(self, sku: str) -> order_pb2.GetSaleTotalsResponse | str:
        try:
            return await self._order.GetSaleTotals(
                order_pb2.GetSaleTotalsRequest(sku=sku), timeout=TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            return f"order: {error.code().name}: {error.details()}"


def _rank(sale: sale_pb2.Sale, *, now_s: float) -> tuple[bool, bool, float]:
    start_s = sale.terms.start_time.ToNanoseconds() / 1e9
    end_s = sale.terms.end_time.ToNanoseconds() / 1e9
    started = start_s <= now_s
    selling = started and now_s < end_s and sale.state == sale_pb2.SALE_STATE_OPEN
    return sale.loaded and selling, started, start_s
