"""Order and inventory services on stores of the test's own, and ways to damage what they keep."""

import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import grpc
from aiokafka import AIOKafkaProducer

import inventory_svc.__main__
import order_svc.__main__
from devstack import Stores
from inventory_svc.keys import outbox_key, sale_key, skus_key, stock_key, users_key
from inventory_svc.settings import InventorySettings
from inventory_svc.stock.stock import Stock
from order_svc.settings import OrderSettings
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import delay_key
from seckill.v1 import (
    events_pb2,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    sale_pb2,
)
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.inventory import attempt
from tests.kits.keys import until_key
from tests.kits.rollback import TIMEOUT_S, Shop, free_address, running
from tests.kits.stores import Topics, client_of

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
Result = inventory_pb2.ReserveResult


def buyers_of(count: int) -> list[str]:
    """So many new buyers."""
    return [new_id("buyer") for _ in range(count)]


class DamagedShop(Shop):
    """A shop whose stores a test may reach into."""

    sql: asyncpg.Connection
    topics: Topics
    stores: Stores

    async def create(self, terms: sale_pb2.SaleTerms) -> str:
        """A new sale's sku."""
        request = inventory_pb2.CreateSaleRequest(terms=terms)
        await self.inventory.CreateSale(request, timeout=TIMEOUT_S)
        return terms.sku

    async def reserve(
        self, sku: str, user_id: str, *, request_id: str = "first", quantity: int = 1
    ) -> Result:
        """The answer to one attempt."""
        item = inventory_pb2.ReserveItem(user_id=user_id, request_id=request_id, quantity=quantity)
        request = inventory_pb2.ReserveRequest(sku=sku, item=item)
        return (await self.inventory.Reserve(request, timeout=TIMEOUT_S)).result

    async def reserve_unsent(
        self, sku: str, buyers: Sequence[str], *, bucket: str = ""
    ) -> list[str]:
        """Have buyers reserve what Kafka never gets; return their orders' numbers.

        `bucket`: hash tag of the bucket that decides, if the sale has several.
        """
        tag = bucket or sku
        await self.redis.srem(skus_key(), sku)  # what no relay knows of stays where it is
        # By the script itself: the service would wake its relay.
        stock = Stock(
            self.redis,
            clock=SystemClock(),
            rng=random.Random(),
            scripts_max=1,
            waiting_max=1,
            backlog_max=10_000,
        )
        decided = await stock.reserve(tag, list(map(attempt, buyers)), timeout_s=TIMEOUT_S)
        assert await self.redis.xtrim(outbox_key(tag), maxlen=0) > 0
        await self.redis.sadd(skus_key(), sku)
        return [result.order_no for result in decided.results]

    async def order(self, order_no: str) -> order_pb2.Order | None:
        """The order as the database has it, if it is there."""
        request = order_pb2.GetOrderRequest(order_no=order_no)
        try:
            return (await self.orders.GetOrder(request, timeout=TIMEOUT_S)).order
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def written(self, order_no: str) -> order_pb2.Order:
        """Return an order as soon as the database has it: it is in the delay set then."""
        order = await until_key(self.redis, delay_key(), lambda: self.order(order_no))
        assert order is not None
        return order

    async def pay(self, order_no: str) -> None:
        """Pay for one unit."""
        await self.orders.PayOrder(
            order_pb2.PayOrderRequest(order_no=order_no, payment_id=new_id("pay"), amount=PRICE),
            timeout=TIMEOUT_S,
        )

    async def cancel(self, order_no: str) -> None:
        """Give an order up."""
        request = order_pb2.CancelOrderRequest(order_no=order_no)
        await self.orders.CancelOrder(request, timeout=TIMEOUT_S)

    async def lose(self, sku: str) -> None:
        """What a Redis without its data looks like for one sale; others are not touched."""
        await self.redis.delete(sale_key(sku), stock_key(sku), users_key(sku), outbox_key(sku))
        await self.redis.delete(skus_key())

    async def rebuild(self, sku: str, *, timeout_s: float = 20.0) -> sale_pb2.Sale:
        """Rebuild it."""
        request = inventory_pb2.RebuildSaleRequest(sku=sku)
        return (await self.inventory.RebuildSale(request, timeout=timeout_s)).sale

    async def stock(self, sku: str) -> int:
        """The counter."""
        return int(await self.redis.get(stock_key(sku)) or -1_000_000)

    async def send(self, events: Iterable[events_pb2.OrderReserved]) -> None:
        """Put reservations into Kafka, past the outbox."""
        async with AIOKafkaProducer(bootstrap_servers=self.stores.kafka_bootstrap) as producer:
            for event in events:
                await producer.send_and_wait(
                    self.topics.orders,
                    event.SerializeToString(),
                    key=event.order_no.encode(),
                    timestamp_ms=int(time.time() * 1000),
                )


def terms_of(units: int, *, rebuy_allowed: bool = False, limit: int = 1) -> sale_pb2.SaleTerms:
    """Terms with time to pay."""
    return sale_terms(
        units=units, rebuy_allowed=rebuy_allowed, limit=limit, payment_window_s=3_600.0
    )


@asynccontextmanager
async def open_shop(
    stores: Stores, *, redis_url: str, database_dsn: str, topics: Topics, **changes: float | str
) -> AsyncIterator[DamagedShop]:
    """Both services, running as their `__main__` wires them; `changes`: settings of both."""
    orders_address, inventory_address = free_address(), free_address()
    common = {
        "profile": "development",
        "redis_url": redis_url,
        "kafka_bootstrap": stores.kafka_bootstrap,
        "orders_topic": topics.orders,
        "dead_letter_topic": topics.dead_letters,
        "drain_timeout_s": 1.0,
        **changes,
    }
    orders = OrderSettings.model_validate(
        common
        | {
            "postgres_dsn": database_dsn,
            "order_listen": orders_address,
            "order_consumer_group": new_id("group"),
        }
    )
    inventory = InventorySettings.model_validate(
        common | {"inventory_listen": inventory_address, "order_target": f"dns:///{orders_address}"}
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running(order_svc.__main__.serve, orders, address=orders_address)
        )
        await stack.enter_async_context(
            running(inventory_svc.__main__.serve, inventory, address=inventory_address)
        )
        to_orders = await stack.enter_async_context(grpc.aio.insecure_channel(orders_address))
        to_inventory = await stack.enter_async_context(grpc.aio.insecure_channel(inventory_address))
        shop = DamagedShop(
            orders_address=orders_address,
            inventory_address=inventory_address,
            redis=await stack.enter_async_context(client_of(redis_url)),
            orders=order_pb2_grpc.OrderServiceStub(to_orders),
            inventory=inventory_pb2_grpc.InventoryServiceStub(to_inventory),
            channels=stack,
        )
        shop.sql = await asyncpg.connect(database_dsn)
        stack.push_async_callback(shop.sql.close)
        shop.topics, shop.stores = topics, stores
        yield shop
