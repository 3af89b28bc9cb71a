"""A receiver of webhooks, and an order database whose events it is sent."""

import asyncio
import base64
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiohttp import web
from standardwebhooks import Webhook

from order_svc.db.database import Database, open_database
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.dispatcher import EndpointDispatcher
from order_svc.webhooks.endpoints import KINDS, Endpoint
from order_svc.webhooks.maintenance import WebhookMaintenance
from order_svc.webhooks.sender import open_sender
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.v1 import events_pb2
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.waiting import Signal, eventually

# Short enough for a test; none of them changes what is done, only when.
QUICK = {
    "profile": "development",
    "redis_url": "redis://none",
    "kafka_bootstrap": "none:1",
    "order_webhook_interval_s": 0.02,
    "order_webhook_backoff_min_s": 0.01,
    "order_webhook_backoff_max_s": 0.05,
    "order_backoff_min_s": 0.02,
    "order_backoff_max_s": 0.1,
}
# A test that passes never waits this long.
STOP_TIMEOUT_S = 30.0


def new_secret() -> str:
    """A key as operators make it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass(frozen=True)
class Received:
    """One request: what it carried, and when it came by the monotonic clock."""

    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def id(self) -> str:
        """Which event it is."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    def verified_by(self, secret: str) -> dict[str, Any]:
        """The CloudEvent, if the reference library accepts the signature; raises if not."""
        event: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return event


Answering = Callable[[Received], Awaitable[web.StreamResponse | int]]


async def accept(_: Received) -> int:
    """Answer as a healthy receiver does."""
    return 204


class Receiver:
    """An HTTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        # Those answered with 2xx, in the order of the answers.
        self.accepted: list[Received] = []
        self.received = Signal()
        self.answer: Answering = accept
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keep it, and answer as told."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, await request.read(), time.monotonic())
        self.requests.append(received)
        self.received.notify()
        answer = await self.answer(received)
        response = web.Response(status=answer) if isinstance(answer, int) else answer
        if 200 <= response.status < 300:
            self.accepted.append(received)
        return response

    def ids(self) -> list[str]:
        """Of all requests."""
        return [received.id for received in self.requests]

    async def got(self, count: int) -> list[Received]:
        """Return all requests, once there are so many."""
        await self.received.until(lambda: len(self.requests) >= count)
        return self.requests


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


def endpoint_of(
    url: str, *, name: str = "shop", secret: str = "", events: Sequence[str] = KINDS
) -> Endpoint:
    """An endpoint with a new secret."""
    return Endpoint.model_validate(
        {"name": name, "url": url, "secret": secret or new_secret(), "events": events}
    )


class WebhookBench:
    """An order database, and the webhooks of its events; Kafka is not there at all."""

    def __init__(self, settings: OrderSettings, database: Database, sql: asyncpg.Connection):
        self.settings = settings
        self.database = database
        self.sql = sql
        self.deliveries = Deliveries(database)
        self.orders = OrderRepository(database)
        self.payments = PaymentRepository(database)

    async def register(self, *endpoints: Endpoint) -> None:
        """Queue events for these endpoints from now on."""
        await self.deliveries.register(endpoints, kept_s=600.0)

    def maintenance(self, *endpoints: Endpoint, **changes: float) -> WebhookMaintenance:
        """Return the maintenance of a replica that has these endpoints."""
        settings = self.settings.model_copy(update=changes)
        return WebhookMaintenance(settings, self.deliveries, endpoints)

    @asynccontextmanager
    async def delivering(self, *endpoints: Endpoint, **changes: float) -> AsyncIterator[None]:
        """Run a replica's dispatchers, as `__main__` makes them."""
        settings = self.settings.model_copy(update=changes)
        clock = SystemClock()
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(
                open_sender(clock, timeout_s=settings.order_webhook_timeout_s)
            )
            tasks = [
                asyncio.create_task(
                    EndpointDispatcher(
                        endpoint=endpoint,
                        settings=settings,
                        deliveries=self.deliveries,
                        sender=sender,
                        clock=clock,
                        rng=random.Random(),
                    ).run()
                )
                for endpoint in endpoints
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    with suppress(asyncio.CancelledError):
                        await asyncio.gather(*tasks)

    async def reserve(self, count: int = 1, *, units: int = 1_000) -> list[str]:
        """Orders of a new sale; their numbers, lowest first."""
        terms = sale_terms(units=units)
        await SaleRepository(self.database).register(terms)
        users = [new_id("buyer") for _ in range(count)]
        numbers = make_order_nos(users, now_s=time.time(), rng=random.Random())
        events = [
            events_pb2.OrderReserved(
                order_no=number, sku=terms.sku, user_id=user, request_id="r", quantity=1
            )
            for number, user in zip(numbers, users, strict=True)
        ]
        await OrderWriter(self.database).write(events)
        return sorted(numbers)

    def payment(self, order_no: str) -> Payment:
        """The right payment."""
        return Payment(
            order_no=order_no,
            provider="psp",
            payment_id=new_id("payment"),
            amount_minor=PRICE.minor_units,
            currency=PRICE.currency,
            user_id="",
        )

    async def pay(self, order_no: str) -> None:
        """Pay for an order."""
        await self.payments.pay(self.payment(order_no))

    async def rows(self) -> list[asyncpg.Record]:
        """Deliveries that are on record, oldest first."""
        rows: list[asyncpg.Record] = await self.sql.fetch(
            "SELECT * FROM webhook_deliveries ORDER BY id"
        )
        return rows

    async def settled(self) -> None:
        """Wait until nothing is on record: all is delivered."""
        await eventually(self.rows, lambda rows: not rows)

    async def dead(self, count: int) -> list[asyncpg.Record]:
        """The dead letters, once there are so many."""

        async def look() -> list[asyncpg.Record]:
            return [row for row in await self.rows() if row["dead_at"] is not None]

        return await eventually(look, lambda rows: len(rows) >= count)


@asynccontextmanager
async def open_webhook_bench(dsn: str, **changes: object) -> AsyncIterator[WebhookBench]:
    """Open a bench on a migrated database; `changes` are settings."""
    settings = OrderSettings.model_validate({**QUICK, "postgres_dsn": dsn, **changes})
    sql = await asyncpg.connect(dsn)
    async with open_database(settings) as database:
        yield WebhookBench(settings, database, sql)
    await sql.close()
