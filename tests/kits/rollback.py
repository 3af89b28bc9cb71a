"""Order and inventory services inside the test's own process, on real stores, for rollback_svc."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import redis.asyncio
from pydantic import SecretStr

from devstack.ports import LOOPBACK, pick_free_port
from rollback_svc.clients import InventoryClient, OrderClient
from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import DelaySet, delay_key
from seckill.runtime.process import Process
from seckill.runtime.settings import ProcessSettings
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc
from tests.kits.factories import new_id, sale_terms
from tests.kits.health import until_health
from tests.kits.keys import until_key
from tests.kits.waiting import eventually

SettingsT = TypeVar("SettingsT", bound=ProcessSettings)
OrderClientT = TypeVar("OrderClientT", bound=OrderClient)
TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 30.0
# The shortest that a sale may have; orders expire while the test looks.
PAYMENT_WINDOW_S = 1.0
# So short that what a dead replica has claimed is due again soon; a claim that ends too soon on a
# slow machine costs repeated work, which changes nothing.
LEASE_S = 0.2


@asynccontextmanager
async def running(
    serve: Callable[[SettingsT, Process], Awaitable[None]], settings: SettingsT, *, address: str
) -> AsyncIterator[None]:
    """A service as its `__main__` wires it, ready at `address`, stopped at the end."""
    async with AsyncExitStack() as stack:
        process = Process(stack, service="rollback")

        async def live() -> None:
            await serve(settings, process)

        task = asyncio.create_task(live())
        try:
            await until_health(address)
            yield
        finally:
            process.stop()
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await task


def free_address() -> str:
    """host:port at which nothing listens."""
    return f"{LOOPBACK}:{pick_free_port()}"


@dataclass
class Shop:
    """Makes sales, buys, and tells what became of the units."""

    orders_address: str
    inventory_address: str
    redis: "redis.asyncio.Redis"
    orders: "order_pb2_grpc.OrderServiceAsyncStub"
    inventory: "inventory_pb2_grpc.InventoryServiceAsyncStub"
    channels: AsyncExitStack = field(repr=False)

    @property
    def delay(self) -> DelaySet:
        """The delay set that order_svc fills."""
        return DelaySet(self.redis)

    async def open_sale(self, units: int, *, payment_window_s: float = PAYMENT_WINDOW_S) -> str:
        """A new sale's sku."""
        terms = sale_terms(units=units, payment_window_s=payment_window_s)
        request = inventory_pb2.CreateSaleRequest(terms=terms)
        await self.inventory.CreateSale(request, timeout=TIMEOUT_S)
        return terms.sku

    async def buy(self, sku: str, buyers: int) -> list[str]:
        """One unit each for new buyers; the numbers of their orders, once all are pending."""
        items = [
            inventory_pb2.ReserveItem(user_id=new_id("buyer"), request_id="first", quantity=1)
            for _ in range(buyers)
        ]
        answer = await self.inventory.BatchReserve(
            inventory_pb2.BatchReserveRequest(sku=sku, items=items), timeout=TIMEOUT_S
        )
        numbers = [result.order_no for result in answer.results]
        # An order is in the delay set once the database has it.
        await until_key(
            self.redis,
            delay_key(),
            lambda: self.delayed(numbers),
            lambda found: found == {*numbers},
        )
        return numbers

    async def found(self, numbers: Sequence[str]) -> list[order_pb2.Order]:
        """Those of the orders that the database has."""
        answer = await self.orders.BatchGetOrders(
            order_pb2.BatchGetOrdersRequest(order_nos=numbers), timeout=TIMEOUT_S
        )
        return [order_pb2.Order.FromString(text) for text in answer.orders if text]

    async def delayed(self, numbers: Sequence[str]) -> set[str]:
        """Those of the orders that are in the delay set, claimed or not."""
        return set(numbers) & (await self.scores()).keys()

    async def scores(self) -> dict[str, float]:
        """The delay set: number → Unix time in seconds at which it is due."""
        found: list[Any] = await self.redis.zrange(delay_key(), 0, -1, withscores=True)
        return {number.decode(): score_ms / 1000 for number, score_ms in found}

    async def buy_and_let_expire(self, sku: str, buyers: int) -> list[str]:
        """The same, once they can no longer be paid."""
        numbers = await self.buy(sku, buyers)
        request = order_pb2.ListExpiredRequest(page_size=1_000)

        async def expired() -> set[str]:
            answer = await self.orders.ListExpired(request, timeout=TIMEOUT_S)
            return set(answer.order_nos)

        await eventually(expired, lambda seen: seen >= set(numbers))
        return numbers

    async def remaining(self, sku: str) -> int:
        """Units on sale in Redis."""
        request = inventory_pb2.GetSaleRequest(sku=sku)
        return (await self.inventory.GetSale(request, timeout=TIMEOUT_S)).sale.remaining_units

    async def totals(self, sku: str) -> order_pb2.GetSaleTotalsResponse:
        """Units by state in the database."""
        request = order_pb2.GetSaleTotalsRequest(sku=sku)
        return await self.orders.GetSaleTotals(request, timeout=TIMEOUT_S)

    async def channel(self, address: str) -> grpc.aio.Channel:
        """A new connection, closed with the shop."""
        channel = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        return await self.channels.enter_async_context(channel)

    async def order_client(
        self, kind: type[OrderClientT], *, lease_s: float = LEASE_S
    ) -> OrderClientT:
        """OrderService as a sweeper sees it, or as a failing one does."""
        channel = await self.channel(self.orders_address)
        return kind(channel, timeout_s=TIMEOUT_S, lease_s=lease_s)

    async def inventory_client(
        self, kind: type[InventoryClient] = InventoryClient, *, address: str = ""
    ) -> InventoryClient:
        """InventoryService as a sweeper sees it, or as a failing one does."""
        channel = await self.channel(address or self.inventory_address)
        return kind(channel, timeout_s=TIMEOUT_S)

    async def sweeper(
        self,
        *,
        orders: OrderClient | None = None,
        inventory: InventoryClient | None = None,
        page_size: int = 500,
        lease_s: float = LEASE_S,
    ) -> Sweeper:
        """A replica of rollback_svc that runs its rounds when told."""
        return Sweeper(
            settings=RollbackSettings(
                redis_url=SecretStr("redis://unused"),
                rollback_page_size=page_size,
                rollback_lease_s=lease_s,
            ),
            delay=self.delay,
            orders=orders or await self.order_client(OrderClient, lease_s=lease_s),
            inventory=inventory or await self.inventory_client(),
            clock=SystemClock(),
            rng=random.Random(1),
        )
