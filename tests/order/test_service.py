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
import redis.asyncio

from devstack import Stores
from order_svc.db.database import Database, open_database
from order_svc.intake.writer import OrderWriter
from order_svc.orders.outdated import OUTDATED_MAX, OutdatedOrders
from order_svc.orders.projection import OrderProjection
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import OrderRepository
from order_svc.rpc.operators import OpenGate
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.service import SERVICE
from order_svc.sales.changes import SaleChanges
from order_svc.settings import OrderSettings
from order_svc.wiring import Stores as OpenStores
from order_svc.wiring import build_payments, build_service
from seckill.errors import DependencyUnavailable
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.runtime.redis_client import open_redis
from seckill.runtime.server import Health, serving
from seckill.status import reason_of
from seckill.v1 import events_pb2, order_pb2, order_pb2_grpc, sale_pb2
from tests.kits.redis_state import full, without_writes

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


class Service:
    """A served OrderService, its stub, and the parts behind it."""

    def __init__(
        self,
        *,
        stub: "order_pb2_grpc.OrderServiceAsyncStub",
        database: Database,
        projection: OrderProjection,
        readers: tuple[OrderReader, OrderReader],
        redis: "redis.asyncio.Redis",
        sql: asyncpg.Connection,
        address: str,
    ) -> None:
        self.stub = stub
        self.address = address
        self.writer = OrderWriter(database)
        self.projection = projection
        # The service's own, and that of another replica.
        self.reader, self.other_reader = readers
        self.redis = redis
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
        batch = await self.writer.write(events)
        return [event.order_no for event, _ in batch.fresh]

    async def expire(self, sku: str) -> None:
        """Move the sale's pending orders into the past."""
        await self.sql.execute(
            "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
            " - interval '1 h' WHERE sku = $1 AND status = 'pending'",
            sku,
        )

    async def polled(self, order_no: str) -> set[order_pb2.OrderState.ValueType]:
        """What polls are told, at this replica and at another."""
        readers = (self.reader, self.other_reader)
        encoded = [(await reader.read([order_no]))[0] for reader in readers]
        return {order_pb2.Order.FromString(order).state for (order,) in encoded}

    async def state_shown(self, order_no: str) -> order_pb2.OrderState.ValueType:
        """The state in the projection."""
        (encoded,), _ = await self.projection.read([order_no])
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
async def service(stores: Stores, database_dsn: str, redis_url: str) -> AsyncIterator[Service]:
    """The service on a free port."""
    settings = OrderSettings.model_validate(
        {
            "profile": "development",
            "postgres_dsn": database_dsn,
            "redis_url": redis_url,
            "kafka_bootstrap": stores.kafka_bootstrap,
            "order_watch_interval_s": 0.02,
            "drain_timeout_s": 1.0,
        }
    )
    sql = await asyncpg.connect(database_dsn)
    async with open_database(settings) as database, open_redis(settings) as client:
        projection = OrderProjection(client, settings)
        opened = OpenStores(client, database, SystemClock())
        reader, other_reader = (
            OrderReader(OrderRepository(database), projection) for _ in range(2)
        )
        servicer = build_service(
            settings,
            opened,
            reader=reader,
            payments=build_payments(settings, opened, reader),
            changes=SaleChangeHandlers(SaleChanges(database), operators=OpenGate()),
            shop=OpenGate(),
            operators=OpenGate(),
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
            yield Service(
                stub=order_pb2_grpc.OrderServiceStub(channel),
                database=database,
                projection=projection,
                readers=(reader, other_reader),
                redis=client,
                sql=sql,
                address=f"127.0.0.1:{port}",
            )
    await sql.close()


async def test_registering_a_sale_again_tells_it_was_known(service: Service) -> None:
    """created is true once, the terms come back with defaults filled in, others are refused."""
    wanted = terms(f"sku-{uuid.uuid4().hex}")
    request = order_pb2.RegisterSaleRequest(terms=wanted)
    first = await service.stub.RegisterSale(request)
    second = await service.stub.RegisterSale(request)
    assert (first.created, second.created, first.epoch) == (True, False, 1)
    assert first.terms.purchase_limit == 1
    assert first.terms.payment_window.seconds == 900
    wanted.total_units += 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.RegisterSale(order_pb2.RegisterSaleRequest(terms=wanted))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_pages_of_orders_hold_each_once_newest_first(service: Service) -> None:
    """Walking through the pages meets every order of the filter, in falling order."""
    sku = await service.sale()
    order_nos = await service.pending(sku, 25)
    await service.pending(await service.sale(), 3)
    await service.stub.PayOrder(pay_request(order_nos[7]))
    seen: list[str] = []
    token = ""
    while True:
        page = await service.stub.ListOrders(
            order_pb2.ListOrdersRequest(
                sku=sku, state=order_pb2.ORDER_STATE_PENDING, page_size=10, page_token=token
            )
        )
        seen += [order.order_no for order in page.orders]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(order_nos) - {order_nos[7]}, reverse=True)


async def test_paid_order_is_shown_as_paid(service: Service) -> None:
    """The answer, the database and the projection agree, also on the second notice."""
    (number,) = await service.pending(await service.sale())
    request = pay_request(number)
    answers = [(await service.stub.PayOrder(request)).order for _ in range(2)]
    assert answers[0] == answers[1]
    got = (await service.stub.GetOrder(order_pb2.GetOrderRequest(order_no=number))).order
    assert got == answers[0]
    assert got.payment_id == request.payment_id
    assert await service.state_shown(number) == order_pb2.ORDER_STATE_PAID


async def test_polls_are_right_at_once_if_redis_was_full(service: Service) -> None:
    """What the projection cannot be told any more it forgets: while it is full, and afterwards."""
    first, second = await service.pending(await service.sale(), 2)
    for number in (first, second):
        assert await service.polled(number) == {order_pb2.ORDER_STATE_PENDING}
    async with full(service.redis):
        await service.stub.PayOrder(pay_request(first))
        assert await service.polled(first) == {order_pb2.ORDER_STATE_PAID}
        await service.stub.CancelOrder(order_pb2.CancelOrderRequest(order_no=second))
        assert await service.polled(second) == {order_pb2.ORDER_STATE_CANCELLED}
    for _ in range(2):
        assert await service.polled(first) == {order_pb2.ORDER_STATE_PAID}
        assert await service.polled(second) == {order_pb2.ORDER_STATE_CANCELLED}


async def test_polls_are_right_if_redis_took_no_writes(service: Service) -> None:
    """At the replica that knows at once; at the others as soon as it can tell Redis."""
    (number,) = await service.pending(await service.sale())
    assert await service.polled(number) == {order_pb2.ORDER_STATE_PENDING}
    # Longer than the write of the projection, and what takes its place, wait.
    async with without_writes(service.redis):
        await service.stub.PayOrder(pay_request(number))
        encoded, _ = await service.reader.read([number])
        assert order_pb2.Order.FromString(encoded[0]).state == order_pb2.ORDER_STATE_PAID
        with pytest.raises(DependencyUnavailable):
            await service.reader.run_once()
        assert await service.state_shown(number) == order_pb2.ORDER_STATE_PENDING
    assert await service.reader.run_once() == 1
    for _ in range(2):
        assert await service.polled(number) == {order_pb2.ORDER_STATE_PAID}


def test_outdated_orders_are_bounded_and_forgotten_by_their_last_change() -> None:
    """The oldest go first; one that has changed since it was returned is kept."""
    outdated = OutdatedOrders()
    outdated.add(str(number) for number in range(OUTDATED_MAX + 1))
    assert "0" not in outdated
    marks = asyncio.run(outdated.first(2))
    assert list(marks) == ["1", "2"]
    outdated.add(["1"])
    outdated.forget(marks)
    assert ("1" in outdated, "2" in outdated) == (True, False)


async def test_late_payment_is_told_as_such(service: Service) -> None:
    """A payment after the expiry is refused with its own reason."""
    sku = await service.sale()
    (number,) = await service.pending(sku)
    await service.expire(sku)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.PayOrder(pay_request(number))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "PAYMENT_TOO_LATE"


async def test_cancelled_order_goes_through_the_restore_outbox(service: Service) -> None:
    """Its units are listed until they are marked, and then counted as restored."""
    sku = await service.sale()
    (number,) = await service.pending(sku, user_id="buyer")
    request = order_pb2.CancelOrderRequest(order_no=number, user_id="buyer")
    for _ in range(2):
        cancelled = (await service.stub.CancelOrder(request)).order
        assert cancelled.state == order_pb2.ORDER_STATE_CANCELLED
    assert await service.state_shown(number) == order_pb2.ORDER_STATE_CANCELLED
    listed = (await service.stub.ListUnrestored(order_pb2.ListUnrestoredRequest())).orders
    assert [(order.order_no, order.user_id, order.quantity) for order in listed] == [
        (number, "buyer", 1)
    ]
    marks = [
        (await service.stub.MarkRestored(order_pb2.MarkRestoredRequest(order_nos=[number]))).marked
        for _ in range(2)
    ]
    assert marks == [1, 0]
    totals = await service.stub.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku))
    assert (totals.sold_units, totals.cancelled_units, totals.restored_units) == (0, 1, 1)
    (encoded,), _ = await service.projection.read([number])
    assert order_pb2.Order.FromString(encoded or b"").HasField("restore_time")


async def test_units_that_may_come_back_are_counted(service: Service) -> None:
    """Those of orders that await payment, until the last of them expires; of other sales none."""
    sku, other = await service.sale(), await service.sale()
    numbers = await service.pending(sku, 3)
    await service.pending(other)
    await service.stub.PayOrder(pay_request(numbers[0]))
    await service.stub.CancelOrder(order_pb2.CancelOrderRequest(order_no=numbers[1]))
    request = order_pb2.GetUnpaidUnitsRequest(sku=sku)
    unpaid = (await service.stub.GetUnpaidUnits(request)).unpaid
    (order,) = (
        await service.stub.ListOrders(
            order_pb2.ListOrdersRequest(sku=sku, state=order_pb2.ORDER_STATE_PENDING)
        )
    ).orders
    assert (unpaid.units, unpaid.last_expire_time) == (1, order.expire_time)
    await service.stub.PayOrder(pay_request(numbers[2]))
    unpaid = (await service.stub.GetUnpaidUnits(request)).unpaid
    assert (unpaid.units, unpaid.HasField("last_expire_time")) == (0, False)


@pytest.mark.parametrize("restock", [True, False])
async def test_refunded_order_is_shown_and_restored_where_told_to(
    service: Service, restock: bool
) -> None:
    """Its units go through the restore outbox only with restock; the answer repeats."""
    sku = await service.sale()
    (number,) = await service.pending(sku)
    await service.stub.PayOrder(pay_request(number))
    request = order_pb2.RefundOrderRequest(order_no=number, refund_id="r-1", restock=restock)
    first, second = [(await service.stub.RefundOrder(request)).order for _ in range(2)]
    assert first == second
    assert (first.state, first.refund_id) == (order_pb2.ORDER_STATE_REFUNDED, "r-1")
    assert await service.state_shown(number) == order_pb2.ORDER_STATE_REFUNDED
    listed = (await service.stub.ListUnrestored(order_pb2.ListUnrestoredRequest())).orders
    assert [order.order_no for order in listed] == [number] * restock
    swept = await service.stub.CancelExpired(order_pb2.CancelExpiredRequest(order_nos=[number]))
    assert [order.order_no for order in swept.unrestored] == [number] * restock
    totals = await service.stub.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku))
    assert (totals.sold_units, totals.written_off_units) == ((0, 0) if restock else (1, 1))


async def test_operator_refunds_from_the_command_line(service: Service) -> None:
    """`seckill order refund` shows the refunded order; what does not fit is told."""
    sku = await service.sale()
    paid, pending = await service.pending(sku, 2)
    await service.stub.PayOrder(pay_request(paid))

    async def refund(number: str, *options: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seckill_cli", "order", "refund", number, *options),
            env={**os.environ, "COLUMNS": "200", "SECKILL_ORDER_TARGET": service.address},
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


async def test_unpaid_order_is_not_refunded(service: Service) -> None:
    """There is nothing to pay back."""
    (number,) = await service.pending(await service.sale())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.RefundOrder(
            order_pb2.RefundOrderRequest(order_no=number, refund_id="r-1", restock=True)
        )
    assert reason_of(caught.value) == "ORDER_STATE"


async def test_cancel_expired_sorts_every_number(service: Service) -> None:
    """Expired and rejected are unrestored, paid and restored are settled, the rest is pending."""
    sku = await service.sale(total=4)
    paid, restored, expired = await service.pending(sku, 3)
    await service.stub.PayOrder(pay_request(paid))
    await service.expire(sku)
    await service.stub.CancelExpired(order_pb2.CancelExpiredRequest(order_nos=[restored]))
    await service.stub.MarkRestored(order_pb2.MarkRestoredRequest(order_nos=[restored]))
    pending, also_pending, rejected = await service.pending(sku, 3)
    unknown = make_order_nos(["x"], now_s=time.time(), rng=random.Random())[0]
    everything = [paid, restored, expired, pending, also_pending, rejected, unknown, expired]
    listed = await service.stub.ListExpired(order_pb2.ListExpiredRequest())
    assert list(listed.order_nos) == [expired]
    for _ in range(2):
        response = await service.stub.CancelExpired(
            order_pb2.CancelExpiredRequest(order_nos=everything)
        )
        assert {order.order_no for order in response.unrestored} == {expired, rejected}
        assert set(response.settled_order_nos) == {paid, restored}
        assert {order.order_no for order in response.pending} == {pending, also_pending}


async def test_many_orders_are_read_in_the_order_asked_for(service: Service) -> None:
    """Numbers that Redis has not come from the database and are in Redis afterwards."""
    order_nos = await service.pending(await service.sale(), 5)
    unknown = make_order_nos(["x"], now_s=time.time(), rng=random.Random())[0]
    asked = [order_nos[3], unknown, order_nos[0], order_nos[3]]
    request = order_pb2.BatchGetOrdersRequest(order_nos=asked)
    for _ in range(2):
        response = await service.stub.BatchGetOrders(request)
        found = [order_pb2.Order.FromString(order).order_no for order in response.orders]
        assert found == [order_nos[3], "", order_nos[0], order_nos[3]]
    assert await service.state_shown(order_nos[0]) == order_pb2.ORDER_STATE_PENDING


async def test_watched_order_is_followed_to_its_end(service: Service) -> None:
    """The order as it is, then as it becomes; then the stream ends."""
    (number,) = await service.pending(await service.sale())
    states = []
    async for response in service.stub.WatchOrder(order_pb2.WatchOrderRequest(order_no=number)):
        states.append(response.order.state)
        if response.order.state == order_pb2.ORDER_STATE_PENDING:
            await service.stub.PayOrder(pay_request(number))
    assert states == [order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_PAID]


async def test_unknown_order_is_not_found_and_a_young_one_may_yet_come(service: Service) -> None:
    """Only a number made moments ago comes with a time to ask again."""
    for age_s, retries in ((0.0, True), (3_600.0, False)):
        made_s = time.time() - age_s
        number = make_order_nos(["x"], now_s=made_s, rng=random.Random())[0]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.GetOrder(order_pb2.GetOrderRequest(order_no=number))
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
        ("GetUnpaidUnits", order_pb2.GetUnpaidUnitsRequest(sku="a b")),
        ("RegisterSale", order_pb2.RegisterSaleRequest()),
    ],
)
async def test_bad_request_is_refused(
    service: Service, method: str, request_message: object
) -> None:
    """Each is INVALID_ARGUMENT, before anything is asked of a store."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(service.stub, method)(request_message)
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
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while b'"ready": true' not in (line := await process.stdout.readline()):
                assert line, "the process ended before it was ready"
            process.terminate()
            await process.stdout.read()
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
        # The server's maintenance database is not migrated.
        env=process_environment(
            stores,
            dsn=f"{stores.postgres_dsn.rpartition('/')[0]}/postgres",
            redis_url=redis_url,
            topics=topics,
        ),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            lines, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 1
    assert b"python -m order_svc.db.migrate" in lines
