"""OrderService over gRPC, on real Postgres and Redis."""

import asyncio
import os
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import asyncpg
import grpc
import pytest

from deploy.local import Stores
from order_svc.board import OrderBoard
from order_svc.database import Database, open_database
from order_svc.intake import OrderIntake
from order_svc.pipeline import Pipeline
from order_svc.projection import OrderProjection
from order_svc.repository import OrderRepository
from order_svc.sales import SaleRepository
from order_svc.service import SERVICE
from order_svc.settings import OrderSettings
from order_svc.upkeep import SaleUpkeep
from order_svc.upkeep_service import UpkeepServicer
from seckill.clock import SystemClock
from seckill.errors import reason_of
from seckill.order_no import make_order_nos
from seckill.redis_client import open_redis
from seckill.server import Health, serving
from seckill.v1 import events_pb2, order_pb2, order_pb2_grpc, sale_pb2

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0
PRICE = 500


class OwnTopics(Protocol):
    """The topics fixture: names of the test's own topics."""

    @property
    def orders(self) -> str:
        """Topic of reservations."""

    @property
    def dead_letters(self) -> str:
        """Topic of dead letters."""


class Stage:
    """A served OrderService, its stub, and the parts behind it."""

    def __init__(
        self,
        *,
        stub: "order_pb2_grpc.OrderServiceAsyncStub",
        database: Database,
        projection: OrderProjection,
        sql: asyncpg.Connection,
        address: str,
    ) -> None:
        self.stub = stub
        self.address = address
        self.intake = OrderIntake(database)
        self.projection = projection
        self.sql = sql

    async def sale(self, *, total: int = 100) -> str:
        """A registered sale."""
        sku = f"sku-{uuid.uuid4().hex}"
        await self.stub.RegisterSale(order_pb2.RegisterSaleRequest(terms=terms(sku, total=total)))
        return sku

    async def pending(self, sku: str, count: int = 1, *, user_id: str = "") -> list[str]:
        """Numbers of new orders, oldest first."""
        users = [user_id or f"user-{uuid.uuid4().hex}" for _ in range(count)]
        order_nos = make_order_nos(users, now_s=time.time(), rng=random.Random())
        events = [
            events_pb2.OrderReserved(
                order_no=number, sku=sku, user_id=user, request_id="r", quantity=1, epoch=1
            )
            for number, user in zip(order_nos, users, strict=True)
        ]
        batch = await self.intake.write(events)
        return [event.order_no for event, _ in batch.fresh]

    async def expire(self, sku: str) -> None:
        """Move the sale's pending orders into the past."""
        await self.sql.execute(
            "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
            " - interval '1 h' WHERE sku = $1 AND status = 'pending'",
            sku,
        )

    async def state_shown(self, order_no: str) -> order_pb2.OrderState.ValueType:
        """The state in the projection."""
        (encoded,) = await self.projection.read([order_no])
        return order_pb2.Order.FromString(encoded or b"").state


def terms(sku: str, *, total: int = 100) -> sale_pb2.SaleTerms:
    """Terms of a sale that ends in an hour."""
    made = sale_pb2.SaleTerms(
        sku=sku,
        total_units=total,
        unit_price=sale_pb2.Money(currency="EUR", minor_units=PRICE),
    )
    made.end_time.FromSeconds(int(time.time()) + 3_600)
    return made


def pay_request(order_no: str, payment_id: str = "") -> order_pb2.PayOrderRequest:
    """The right payment for one unit."""
    return order_pb2.PayOrderRequest(
        order_no=order_no,
        payment_id=payment_id or f"pay-{uuid.uuid4().hex}",
        amount=sale_pb2.Money(currency="EUR", minor_units=PRICE),
    )


@pytest.fixture
async def stage(stores: Stores, database_dsn: str, redis_url: str) -> AsyncIterator[Stage]:
    """The service on a free port."""
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": database_dsn,
            "redis_url": redis_url,
            "kafka_bootstrap": stores.kafka_bootstrap,
            "order_watch_interval_s": 0.02,
            "drain_timeout_s": 1.0,
        }
    )
    sql = await asyncpg.connect(database_dsn)
    async with open_database(settings) as database, open_redis(settings) as client:
        orders = OrderRepository(database)
        projection = OrderProjection(client, settings)
        servicer = UpkeepServicer(
            settings=settings,
            sales=SaleRepository(database),
            orders=orders,
            board=OrderBoard(orders, projection),
            clock=SystemClock(),
            upkeep=SaleUpkeep(database),
            pipeline=Pipeline(settings),
        )
        async with (
            serving(
                "127.0.0.1:0",
                lambda server: order_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server),
                settings=settings,
                health_state=Health([SERVICE]),
                services=[SERVICE],
            ) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield Stage(
                stub=order_pb2_grpc.OrderServiceStub(channel),
                database=database,
                projection=projection,
                sql=sql,
                address=f"127.0.0.1:{port}",
            )
    await sql.close()


async def test_registering_a_sale_again_tells_it_was_known(stage: Stage) -> None:
    """created is true once, the terms come back with defaults filled in, others are refused."""
    wanted = terms(f"sku-{uuid.uuid4().hex}")
    request = order_pb2.RegisterSaleRequest(terms=wanted)
    first = await stage.stub.RegisterSale(request)
    second = await stage.stub.RegisterSale(request)
    assert (first.created, second.created, first.epoch) == (True, False, 1)
    assert first.terms.purchase_limit == 1
    assert first.terms.payment_window.seconds == 900
    wanted.total_units += 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.stub.RegisterSale(order_pb2.RegisterSaleRequest(terms=wanted))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_pages_of_orders_hold_each_once_newest_first(stage: Stage) -> None:
    """Walking through the pages meets every order of the filter, in falling order."""
    sku = await stage.sale()
    order_nos = await stage.pending(sku, 25)
    await stage.pending(await stage.sale(), 3)
    await stage.stub.PayOrder(pay_request(order_nos[7]))
    seen: list[str] = []
    token = ""
    while True:
        page = await stage.stub.ListOrders(
            order_pb2.ListOrdersRequest(
                sku=sku, state=order_pb2.ORDER_STATE_PENDING, page_size=10, page_token=token
            )
        )
        seen += [order.order_no for order in page.orders]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(order_nos) - {order_nos[7]}, reverse=True)


async def test_paid_order_is_shown_as_paid(stage: Stage) -> None:
    """The answer, the database and the projection agree, also on the second notice."""
    (number,) = await stage.pending(await stage.sale())
    request = pay_request(number)
    answers = [(await stage.stub.PayOrder(request)).order for _ in range(2)]
    assert answers[0] == answers[1]
    got = (await stage.stub.GetOrder(order_pb2.GetOrderRequest(order_no=number))).order
    assert got == answers[0]
    assert got.payment_id == request.payment_id
    assert await stage.state_shown(number) == order_pb2.ORDER_STATE_PAID


async def test_late_payment_is_told_as_such(stage: Stage) -> None:
    """A payment after the expiry is refused with its own reason."""
    sku = await stage.sale()
    (number,) = await stage.pending(sku)
    await stage.expire(sku)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.stub.PayOrder(pay_request(number))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "PAYMENT_TOO_LATE"


async def test_cancelled_order_goes_through_the_restore_outbox(stage: Stage) -> None:
    """Its units are listed until they are marked, and then counted as restored."""
    sku = await stage.sale()
    (number,) = await stage.pending(sku, user_id="buyer")
    request = order_pb2.CancelOrderRequest(order_no=number, user_id="buyer")
    for _ in range(2):
        cancelled = (await stage.stub.CancelOrder(request)).order
        assert cancelled.state == order_pb2.ORDER_STATE_CANCELLED
    assert await stage.state_shown(number) == order_pb2.ORDER_STATE_CANCELLED
    listed = (await stage.stub.ListUnrestored(order_pb2.ListUnrestoredRequest())).orders
    assert [(order.order_no, order.user_id, order.quantity) for order in listed] == [
        (number, "buyer", 1)
    ]
    marks = [
        (await stage.stub.MarkRestored(order_pb2.MarkRestoredRequest(order_nos=[number]))).marked
        for _ in range(2)
    ]
    assert marks == [1, 0]
    totals = await stage.stub.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku))
    assert (totals.sold_units, totals.cancelled_units, totals.restored_units) == (0, 1, 1)
    (encoded,) = await stage.projection.read([number])
    assert order_pb2.Order.FromString(encoded or b"").HasField("restore_time")


@pytest.mark.parametrize("restock", [True, False])
async def test_refunded_order_is_shown_and_restored_where_told_to(
    stage: Stage, restock: bool
) -> None:
    """Its units go through the restore outbox only with restock; the answer repeats."""
    sku = await stage.sale()
    (number,) = await stage.pending(sku)
    await stage.stub.PayOrder(pay_request(number))
    request = order_pb2.RefundOrderRequest(order_no=number, refund_id="r-1", restock=restock)
    first, second = [(await stage.stub.RefundOrder(request)).order for _ in range(2)]
    assert first == second
    assert (first.state, first.refund_id) == (order_pb2.ORDER_STATE_REFUNDED, "r-1")
    assert await stage.state_shown(number) == order_pb2.ORDER_STATE_REFUNDED
    listed = (await stage.stub.ListUnrestored(order_pb2.ListUnrestoredRequest())).orders
    assert [order.order_no for order in listed] == [number] * restock
    swept = await stage.stub.CancelExpired(order_pb2.CancelExpiredRequest(order_nos=[number]))
    assert [order.order_no for order in swept.unrestored] == [number] * restock
    totals = await stage.stub.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku))
    assert (totals.sold_units, totals.written_off_units) == ((0, 0) if restock else (1, 1))


async def test_operator_refunds_from_the_command_line(stage: Stage) -> None:
    """`seckill order refund` shows the refunded order; what does not fit is told."""
    sku = await stage.sale()
    paid, pending = await stage.pending(sku, 2)
    await stage.stub.PayOrder(pay_request(paid))

    async def refund(number: str, *options: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seckill", "order", "refund", number, *options),
            env={**os.environ, "COLUMNS": "200", "SECKILL_ORDER_TARGET": stage.address},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    status, shown = await refund(paid, "--write-off", "--refund-id", "r-1")
    assert (status, "refunded" in shown) == (0, True), shown
    status, shown = await refund(paid, "--restock", "--refund-id", "r-1")
    assert (status, "written off" in shown) == (1, True), shown
    status, shown = await refund(pending, "--restock")
    assert (status, "reason ORDER_STATE" in shown) == (1, True), shown
    status, _ = await refund(pending)
    assert status == 2


async def test_unpaid_order_is_not_refunded(stage: Stage) -> None:
    """There is nothing to pay back."""
    (number,) = await stage.pending(await stage.sale())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.stub.RefundOrder(
            order_pb2.RefundOrderRequest(order_no=number, refund_id="r-1", restock=True)
        )
    assert reason_of(caught.value) == "ORDER_STATE"


async def test_cancel_expired_sorts_every_number(stage: Stage) -> None:
    """Expired and rejected are unrestored, paid and restored are settled, the rest is pending."""
    sku = await stage.sale(total=4)
    paid, restored, expired = await stage.pending(sku, 3)
    await stage.stub.PayOrder(pay_request(paid))
    await stage.expire(sku)
    await stage.stub.CancelExpired(order_pb2.CancelExpiredRequest(order_nos=[restored]))
    await stage.stub.MarkRestored(order_pb2.MarkRestoredRequest(order_nos=[restored]))
    pending, also_pending, rejected = await stage.pending(sku, 3)
    unknown = make_order_nos(["x"], now_s=time.time(), rng=random.Random())[0]
    everything = [paid, restored, expired, pending, also_pending, rejected, unknown, expired]
    listed = await stage.stub.ListExpired(order_pb2.ListExpiredRequest())
    assert list(listed.order_nos) == [expired]
    for _ in range(2):
        response = await stage.stub.CancelExpired(
            order_pb2.CancelExpiredRequest(order_nos=everything)
        )
        assert {order.order_no for order in response.unrestored} == {expired, rejected}
        assert set(response.settled_order_nos) == {paid, restored}
        assert {order.order_no for order in response.pending} == {pending, also_pending}


async def test_many_orders_are_read_in_the_order_asked_for(stage: Stage) -> None:
    """Numbers that Redis has not come from the database and are in Redis afterwards."""
    order_nos = await stage.pending(await stage.sale(), 5)
    unknown = make_order_nos(["x"], now_s=time.time(), rng=random.Random())[0]
    asked = [order_nos[3], unknown, order_nos[0], order_nos[3]]
    request = order_pb2.BatchGetOrdersRequest(order_nos=asked)
    for _ in range(2):
        response = await stage.stub.BatchGetOrders(request)
        found = [order_pb2.Order.FromString(order).order_no for order in response.orders]
        assert found == [order_nos[3], "", order_nos[0], order_nos[3]]
    assert await stage.state_shown(order_nos[0]) == order_pb2.ORDER_STATE_PENDING


async def test_watched_order_is_followed_to_its_end(stage: Stage) -> None:
    """The order as it is, then as it becomes; then the stream ends."""
    (number,) = await stage.pending(await stage.sale())
    states = []
    async for response in stage.stub.WatchOrder(order_pb2.WatchOrderRequest(order_no=number)):
        states.append(response.order.state)
        if response.order.state == order_pb2.ORDER_STATE_PENDING:
            await stage.stub.PayOrder(pay_request(number))
    assert states == [order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_PAID]


async def test_unknown_order_is_not_found_and_a_young_one_may_yet_come(stage: Stage) -> None:
    """Only a number made moments ago comes with a time to ask again."""
    for age_s, retries in ((0.0, True), (3_600.0, False)):
        made_s = time.time() - age_s
        number = make_order_nos(["x"], now_s=made_s, rng=random.Random())[0]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.stub.GetOrder(order_pb2.GetOrderRequest(order_no=number))
        assert reason_of(caught.value) == "ORDER_NOT_FOUND"
        details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
        assert (b"RetryInfo" in bytes(details)) is retries


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("GetOrder", order_pb2.GetOrderRequest(order_no="no")),
        ("BatchGetOrders", order_pb2.BatchGetOrdersRequest()),
        ("ListOrders", order_pb2.ListOrdersRequest(page_token="forged")),
        ("ListOrders", order_pb2.ListOrdersRequest(page_size=1_001)),
        ("PayOrder", order_pb2.PayOrderRequest()),
        ("RefundOrder", order_pb2.RefundOrderRequest()),
        ("CancelExpired", order_pb2.CancelExpiredRequest(order_nos=["no"])),
        ("ListUnrestored", order_pb2.ListUnrestoredRequest(page_size=-1)),
        ("ClaimUnrestored", order_pb2.ClaimUnrestoredRequest(page_size=10)),
        ("GetSaleTotals", order_pb2.GetSaleTotalsRequest(sku="a b")),
        ("RegisterSale", order_pb2.RegisterSaleRequest()),
    ],
)
async def test_bad_request_is_refused(stage: Stage, method: str, request_message: object) -> None:
    """Each is INVALID_ARGUMENT, before anything is asked of a store."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stage.stub, method)(request_message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_FIELD"


def process_environment(
    stores: Stores, *, dsn: str, redis_url: str, topics: OwnTopics
) -> dict[str, str]:
    """The environment of an order process on free ports."""
    return {
        **os.environ,
        "SECKILL_POSTGRES_DSN": dsn,
        "SECKILL_REDIS_URL": redis_url,
        "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
        "SECKILL_ORDERS_TOPIC": topics.orders,
        "SECKILL_DEAD_LETTER_TOPIC": topics.dead_letters,
        "SECKILL_ORDER_LISTEN": "127.0.0.1:0",
        "SECKILL_ORDER_METRICS_LISTEN": "127.0.0.1:0",
        "SECKILL_ORDER_SCHEMA_TIMEOUT_S": "1",
        "SECKILL_LOG_FORMAT": "json",
    }


async def test_process_serves_and_drains_on_sigterm(
    stores: Stores, database_dsn: str, redis_url: str, topics: OwnTopics
) -> None:
    """python -m order_svc says that it serves, becomes ready, and ends with 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "order_svc"),
        env=process_environment(stores, dsn=database_dsn, redis_url=redis_url, topics=topics),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while b'"ready": true' not in (line := await process.stderr.readline()):
                assert line, "the process ended before it was ready"
            process.terminate()
            await process.stderr.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_process_without_schema_names_the_migration(
    stores: Stores, redis_url: str, topics: OwnTopics
) -> None:
    """A database that was never migrated ends the process with the command to run."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "order_svc"),
        # The server's maintenance database: nobody migrates that.
        env=process_environment(
            stores,
            dsn=f"{stores.postgres_dsn.rpartition('/')[0]}/postgres",
            redis_url=redis_url,
            topics=topics,
        ),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 1
    assert b"python -m order_svc.migrate" in errors
