"""The real scripts and the real SQL, driven step by step, without Kafka and gRPC in between.

What Kafka does to a message (late, in any order, more than once) the simulation does by hand.
"""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg

from inventory_svc.keys import outbox_key, stock_key, users_key
from inventory_svc.outbox.entry import Entry, decode
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.hold import parse_hold
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.stock import Stock
from order_svc.db.database import Database, open_database
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import SeckillError
from seckill.runtime.clock import SystemClock
from seckill.v1 import sale_pb2
from seckill.v1.events_pb2 import OrderReserved
from seckill.v1.inventory_pb2 import Hold, ReleaseItem, ReserveItem, ReserveResult
from tests.kits.stores import client_of

TIMEOUT_S = 5.0
PAGE = 100


@dataclass(frozen=True)
class Facts:
    """What the stores say of a sale.

    Attributes:
        stock: units in Redis.
        held: order number → units, of live holds in Redis.
        orders: order number → state, in Postgres.
        sold: what the row of the sale counts.
        ledger: (kind, order number, units), in order.
    """

    stock: int
    held: dict[str, int]
    orders: dict[str, str]
    sold: int
    ledger: list[tuple[str, str, int]]


class World:
    """One sale at a time on real stores; every method is blocking."""

    def __init__(self, *, redis_url: str, database_dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._run = self._runner.run
        self._client = client_of(redis_url)
        self._dsn = database_dsn
        self._database: Database
        self._admin: asyncpg.Connection
        self._run(self._open())
        self.sku = ""

    async def _open(self) -> None:
        settings = OrderSettings(
            postgres_dsn=self._dsn,  # type: ignore[arg-type]
            redis_url="redis://unused",  # type: ignore[arg-type]
            kafka_bootstrap="unused:1",
        )
        self._database = await self._stack.enter_async_context(open_database(settings))
        self._admin = await asyncpg.connect(self._dsn)
        self._stack.push_async_callback(self._admin.close)
        self._stack.push_async_callback(self._client.aclose)
        self._stock = Stock(
            self._client,
            clock=SystemClock(),
            rng=random.Random(),
            scripts_max=4,
            waiting_max=100,
            backlog_max=10_000,
        )
        self._loader = SaleLoader(self._client)
        self._intake = OrderWriter(self._database)
        self._orders = OrderRepository(self._database)
        self._payments = PaymentRepository(self._database)
        self._sales = SaleRepository(self._database)

    def close(self) -> None:
        """Disconnect."""
        self._run(self._stack.aclose())
        self._runner.close()

    def open_sale(self, terms: sale_pb2.SaleTerms) -> None:
        """Register and load a sale."""
        self.sku = terms.sku

        async def work() -> None:
            await self._sales.register(terms)
            await self._loader.load(
                terms.sku,
                to_fields(terms, now_ms=0),
                epoch=1,
                units=terms.total_units,
                timeout_s=TIMEOUT_S,
            )

        self._run(work())

    def reserve(self, *, user_id: str, request_id: str, quantity: int) -> ReserveResult:
        """Make one attempt."""
        item = ReserveItem(user_id=user_id, request_id=request_id, quantity=quantity)
        decided = self._run(self._stock.reserve(self.sku, [item], timeout_s=TIMEOUT_S))
        return decided.results[0]

    def take_outbox(self, count: int) -> list[OrderReserved]:
        """What the relay would send now of `count` entries; gone from the outbox afterwards."""

        async def work() -> list[OrderReserved]:
            key = outbox_key(self.sku)
            entries: Any = await self._client.xrange(key, count=count)
            if entries:
                await self._client.xdel(key, *(entry_id for entry_id, _ in entries))
            return [
                OrderReserved.FromString(record.value)
                for entry_id, fields in entries
                for record in decode(Entry(key, entry_id, fields[b"b"]))[0]
            ]

        return self._run(work())

    def deliver(self, events: list[OrderReserved]) -> None:
        """What the consumer does with a batch."""
        self._run(self._intake.write(events))

    def pay(self, order_no: str, *, payment_id: str, amount_minor: int) -> str:
        """Pay; returns "ok" or the name of the fault."""
        payment = Payment(
            order_no=order_no,
            provider="psp",
            payment_id=payment_id,
            amount_minor=amount_minor,
            currency="CNY",
            user_id="",
        )
        try:
            self._run(self._payments.pay(payment))
        except SeckillError as error:
            return type(error).__name__
        return "ok"

    def cancel(self, order_no: str) -> str:
        """The buyer gives up; returns "ok" or the name of the fault."""
        try:
            self._run(self._orders.cancel(order_no, user_id=""))
        except SeckillError as error:
            return type(error).__name__
        return "ok"

    def expire(self, order_no: str) -> None:
        """Let the payment time of an order run out, then cancel what is due."""

        async def work() -> None:
            await self._admin.execute(
                "UPDATE orders SET created_at = now() - interval '2 s',"
                " expires_at = now() - interval '1 s' WHERE order_no = $1 AND status = 'pending'",
                order_no,
            )
            await self._orders.cancel_expired([order_no])

        self._run(work())

    def restore(self, *, mark: bool) -> int:
        """Release what is unrestored; `mark` false dies before it is noted. Returns units."""

        async def work() -> int:
            rows = await self._orders.unrestored(PAGE)
            if not rows:
                return 0
            items = [ReleaseItem(order_no=row["order_no"], user_id=row["user_id"]) for row in rows]
            units = await self._stock.release(self.sku, items, timeout_s=TIMEOUT_S)
            if mark:
                await self._orders.mark_restored([item.order_no for item in items])
            return sum(units)

        return self._run(work())

    def facts(self) -> Facts:
        """Read the stores."""

        async def work() -> Facts:
            stock: Any = await self._client.get(stock_key(self.sku))
            holds = await self._holds()
            orders = await self._admin.fetch(
                "SELECT order_no, status::text FROM orders WHERE sku = $1", self.sku
            )
            ledger = await self._admin.fetch(
                "SELECT kind::text, order_no, quantity FROM stock_ledger WHERE sku = $1"
                " ORDER BY id",
                self.sku,
            )
            return Facts(
                stock=int(stock),
                held={hold.order_no: hold.quantity for hold in holds if not hold.released},
                orders={row[0]: row[1] for row in orders},
                sold=await self._admin.fetchval("SELECT sold FROM sales WHERE sku = $1", self.sku),
                ledger=[(row[0], row[1], row[2]) for row in ledger],
            )

        return self._run(work())

    async def _holds(self) -> list[Hold]:
        found: Any = await self._client.hgetall(users_key(self.sku))
        return [parse_hold(user, text) for user, text in found.items()]
