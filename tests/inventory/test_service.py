"""InventoryService over gRPC, on real Valkey and Kafka, with a registry of sales beside it."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from aiokafka import AIOKafkaConsumer
from google.rpc import error_details_pb2, status_pb2

from devstack import Stores
from devstack.ports import pick_free_port
from inventory_svc.__main__ import serve
from inventory_svc.keys import sale_key, stock_key
from inventory_svc.rpc.requests import with_defaults
from inventory_svc.settings import InventorySettings
from seckill.errors import SaleExists, SaleNotFound
from seckill.runtime.clock import SystemClock
from seckill.runtime.process import Process
from seckill.runtime.server import FaultsAndMetrics
from seckill.status import DETAILS_KEY, reason_of
from seckill.v1 import (
    events_pb2,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    sale_pb2,
)
from tests.kits.factories import moment, new_id, sale_terms
from tests.kits.health import until_health
from tests.kits.inventory import StockKit, attempt
from tests.kits.keys import until_drained
from tests.kits.stores import Topics, one_server
from tests.kits.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED
TIMEOUT_S = 5.0


class Registry(order_pb2_grpc.OrderServiceServicer):
    """Keeps what was registered; all that inventory_svc asks of OrderService."""

    def __init__(self) -> None:
        self.terms: dict[str, sale_pb2.SaleTerms] = {}

    async def RegisterSale(
        self, request: order_pb2.RegisterSaleRequest, _: Any
    ) -> order_pb2.RegisterSaleResponse:
        known = self.terms.setdefault(request.terms.sku, request.terms)
        if known != request.terms:
            raise SaleExists
        created = known is request.terms
        return order_pb2.RegisterSaleResponse(terms=known, epoch=1, created=created)

    async def RecordSale(
        self, request: order_pb2.RecordSaleRequest, _: Any
    ) -> order_pb2.RecordSaleResponse:
        return order_pb2.RecordSaleResponse(revision=request.revision)

    async def ConfirmStore(
        self, request: order_pb2.ConfirmStoreRequest, _: Any
    ) -> order_pb2.ConfirmStoreResponse:
        return order_pb2.ConfirmStoreResponse(
            standing=order_pb2.STORE_STANDING_CURRENT, generation=1, token=request.token
        )

    async def GetSaleRecord(
        self, request: order_pb2.GetSaleRecordRequest, _: Any
    ) -> order_pb2.GetSaleRecordResponse:
        if request.sku not in self.terms:
            raise SaleNotFound
        return order_pb2.GetSaleRecordResponse(
            sale=order_pb2.SaleRecord(terms=self.terms[request.sku])
        )


@dataclass
class Running:
    """inventory_svc at work."""

    stub: "inventory_pb2_grpc.InventoryServiceAsyncStub"  # known to the type checker only
    registry: Registry
    kit: StockKit
    process: Process

    async def create(self, terms: sale_pb2.SaleTerms | None = None) -> sale_pb2.Sale:
        """A new sale."""
        request = inventory_pb2.CreateSaleRequest(terms=terms or sale_terms())
        return (await self.stub.CreateSale(request, timeout=TIMEOUT_S)).sale

    async def reserve(
        self, sku: str, item: inventory_pb2.ReserveItem
    ) -> inventory_pb2.ReserveResult:
        """One attempt."""
        request = inventory_pb2.ReserveRequest(sku=sku, item=item)
        return (await self.stub.Reserve(request, timeout=TIMEOUT_S)).result


@pytest.fixture
async def running(redis_url: str, stores: Stores, topics: Topics) -> AsyncIterator[Running]:
    """The service as `python -m inventory_svc` wires it, in this process."""
    registry = Registry()  # type: ignore[abstract]
    orders = grpc.aio.server(interceptors=[FaultsAndMetrics()])
    order_pb2_grpc.add_OrderServiceServicer_to_server(registry, orders)
    order_port = orders.add_insecure_port("127.0.0.1:0")
    await orders.start()
    port = pick_free_port()
    settings = InventorySettings(
        redis_url=redis_url,  # type: ignore[arg-type]
        kafka_bootstrap=stores.kafka_bootstrap,
        orders_topic=topics.orders,
        dead_letter_topic=topics.dead_letters,
        profile="development",
        inventory_listen=f"127.0.0.1:{port}",
        order_target=f"127.0.0.1:{order_port}",
        redis_timeout_s=0.5,
    )
    async with AsyncExitStack() as stack:
        process = Process(stack, service="inventory")
        task = asyncio.create_task(serve(settings, process))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        kit = StockKit(redis_url)
        await until_health(f"127.0.0.1:{port}")
        yield Running(inventory_pb2_grpc.InventoryServiceStub(channel), registry, kit, process)
        await kit.close()
        process.stop()
        await task
    await orders.stop(None)


def details_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Fields that BadRequest names, and "retry" if RetryInfo is there."""
    encoded = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    named = []
    for detail in status_pb2.Status.FromString(encoded).details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad):
            named += [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            named.append("retry")
    return named


async def test_created_sale_sells_and_its_order_reaches_kafka(
    running: Running, stores: Stores, topics: Topics
) -> None:
    """From CreateSale to the message that order_svc reads."""
    sale = await running.create(sale_terms(units=5))
    assert (sale.loaded, sale.epoch, sale.remaining_units) == (True, 1, 5)
    result = await running.reserve(sale.terms.sku, attempt())
    assert result.outcome == RESERVED
    async with (
        asyncio.timeout(20),
        AIOKafkaConsumer(
            topics.orders,
            bootstrap_servers=stores.kafka_bootstrap,
            auto_offset_reset="earliest",
        ) as consumer,
    ):
        record = await consumer.getone()
    event = events_pb2.OrderReserved.FromString(record.value)
    assert event.order_no == result.order_no
    await until_drained(running.kit.redis, sale.terms.sku)


async def test_defaults_are_filled_in_and_kept_when_repeated(running: Running) -> None:
    """Start now, one unit a purchase, 15 minutes to pay; the same request, the same sale."""
    terms = sale_pb2.SaleTerms(
        sku=new_id("sku"),
        total_units=3,
        unit_price=sale_pb2.Money(currency="CNY", minor_units=1),
        end_time=moment(60),
    )
    sale = await running.create(terms)
    assert sale.terms.purchase_limit == 1
    assert sale.terms.payment_window.ToSeconds() == 900
    assert sale.state == sale_pb2.SALE_STATE_OPEN
    assert await running.create(terms) == sale


@pytest.fixture
def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service's own clock be ten minutes ahead."""

    class Ahead(SystemClock):
        def now_s(self) -> float:
            return super().now_s() + 600

    monkeypatch.setattr("inventory_svc.__main__.SystemClock", Ahead)


async def test_a_sale_at_once_sells_at_once_by_the_clock_of_redis(
    clock_ahead: None,  # noqa: ARG001 - before the service starts
    running: Running,
) -> None:
    """However far ahead the clock of the service is."""
    terms = sale_terms()
    terms.ClearField("start_time")
    sku = (await running.create(terms)).terms.sku
    assert (await running.reserve(sku, attempt())).outcome == RESERVED


async def test_a_sale_at_once_is_the_same_after_its_start_was_moved(running: Running) -> None:
    """CreateSale repeated without a start_time, after UpdateSale has set one."""
    terms = sale_terms()
    terms.ClearField("start_time")
    sku = (await running.create(terms)).terms.sku
    later = inventory_pb2.UpdateSaleRequest(sku=sku, start_time=moment(100))
    moved = (await running.stub.UpdateSale(later)).sale
    assert await running.create(terms) == moved


async def test_a_sale_wholly_in_the_past_is_refused(running: Running) -> None:
    """By its end_time; one that has ended since it was created is answered all the same."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.create(sale_terms(starts_in_s=-100, ends_in_s=-50))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(caught.value) == ["terms.end_time"]
    assert not running.registry.terms
    ended = with_defaults(sale_terms(starts_in_s=-100, ends_in_s=-50))
    running.registry.terms[ended.sku] = ended
    await running.kit.load(ended)
    assert (await running.create(ended)).terms == ended


async def test_other_terms_of_a_sale_are_refused(running: Running) -> None:
    """What OrderService answers is passed on with its reason."""
    terms = sale_terms()
    await running.create(terms)
    terms.total_units += 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.create(terms)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(caught.value) == "SALE_EXISTS"


@one_server
async def test_lost_sale_is_unavailable_and_never_seeded_again(running: Running) -> None:
    """With its keys gone from Redis it is shown as not loaded, and no attempt brings it back."""
    terms = sale_terms()
    await running.create(terms)
    await running.kit.redis.flushdb()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.reserve(terms.sku, attempt())
    assert reason_of(caught.value) == "SALE_NOT_LOADED"
    assert details_of(caught.value) == ["retry"]
    request = inventory_pb2.GetSaleRequest(sku=terms.sku)
    assert not (await running.stub.GetSale(request)).sale.loaded
    assert await running.kit.redis.exists(sale_key(terms.sku), stock_key(terms.sku)) == 0


async def test_unknown_sku_is_not_found(running: Running) -> None:
    """By every method that names one."""
    sku = new_id("sku")
    release = inventory_pb2.ReleaseItem(order_no="0" * 26, user_id="buyer")
    calls: list[Any] = [
        running.reserve(sku, attempt()),
        running.stub.GetSale(inventory_pb2.GetSaleRequest(sku=sku)),
        running.stub.UpdateSale(inventory_pb2.UpdateSaleRequest(sku=sku)),
        running.stub.Release(inventory_pb2.ReleaseRequest(sku=sku, items=[release])),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason_of(caught.value) == "SALE_NOT_FOUND"


async def test_bad_fields_are_named_all_at_once(running: Running) -> None:
    """BadRequest has the path of each broken field of a batch."""
    items = [attempt(), attempt("with space", quantity=0), attempt(request_id="r" * 65)]
    request = inventory_pb2.BatchReserveRequest(sku="sku", items=items)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.BatchReserve(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(caught.value) == [
        "items[1].user_id",
        "items[1].quantity",
        "items[2].request_id",
    ]


async def test_more_than_the_limit_is_bad_input_alone_and_an_outcome_in_a_batch(
    running: Running,
) -> None:
    """Reserve refuses the field; BatchReserve answers each of its items."""
    sku = (await running.create(sale_terms(limit=2))).terms.sku
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.reserve(sku, attempt(quantity=3))
    assert details_of(caught.value) == ["item.quantity"]
    batch = inventory_pb2.BatchReserveRequest(sku=sku, items=[attempt(quantity=3), attempt()])
    results = (await running.stub.BatchReserve(batch)).results
    assert [result.outcome for result in results] == [LIMIT_EXCEEDED, RESERVED]


async def test_sales_are_listed_in_pages(running: Running) -> None:
    """Every sale once, by sku; a token that was not given out is bad input."""
    skus = sorted([(await running.create()).terms.sku for _ in range(5)])
    seen: list[str] = []
    token = ""
    for _ in range(3):
        request = inventory_pb2.ListSalesRequest(page_size=2, page_token=token)
        page = await running.stub.ListSales(request)
        seen += [sale.terms.sku for sale in page.sales]
        token = page.next_page_token
    assert (seen, token) == (skus, "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.ListSales(inventory_pb2.ListSalesRequest(page_token="nonsense"))
    assert details_of(caught.value) == ["page_token"]


async def test_watchers_are_told_of_every_change(running: Running) -> None:
    """First all sales; then each change, and who holds units of what sells nothing."""
    before = await running.create()
    stream = changes(running.stub.WatchSales(inventory_pb2.WatchSalesRequest()))
    async with asyncio.timeout(30):
        first = await anext(stream)
        assert first.complete
        assert [sale.terms.sku for sale in first.sales] == [before.terms.sku]
        sku = (await running.create(sale_terms(units=1))).terms.sku
        created = await anext(stream)
        assert not created.complete
        assert [(sale.terms.sku, sale.sold_out) for sale in created.sales] == [(sku, False)]
        item = attempt()
        order_no = (await running.reserve(sku, item)).order_no
        assert [sale.sold_out for sale in (await anext(stream)).sales] == [True]
        assert holders_in(await anext(stream)) == {sku: [item.user_id]}
        await running.kit.release(sku, (order_no, item.user_id))
        assert [sale.sold_out for sale in (await anext(stream)).sales] == [False]
        await running.stub.UpdateSale(
            inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_PAUSED)
        )
        states = [sale.state for sale in (await anext(stream)).sales]
        assert states == [sale_pb2.SALE_STATE_PAUSED]
        assert holders_in(await anext(stream)) == {sku: [item.user_id]}


async def changes(
    stream: AsyncIterable[inventory_pb2.WatchSalesResponse],
) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
    """The messages of a stream but those that only say that all holds."""
    async for message in stream:
        if message.ByteSize():
            yield message


def holders_in(message: inventory_pb2.WatchSalesResponse) -> dict[str, list[str]]:
    """Holders by sku."""
    return {told.sku: list(told.user_ids) for told in message.holders}


async def test_closed_sale_stays_closed_and_a_window_keeps_its_order(running: Running) -> None:
    """Reopening is a conflict of states, an end before the start is bad input."""
    sku = (await running.create()).terms.sku
    update = inventory_pb2.UpdateSaleRequest
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.UpdateSale(update(sku=sku, end_time=moment(-100)))
    assert details_of(caught.value) == ["end_time"]
    later = await running.stub.UpdateSale(update(sku=sku, start_time=moment(50)))
    assert later.sale.terms.start_time.ToMilliseconds() > moment(40).ToMilliseconds()
    await running.stub.UpdateSale(update(sku=sku, state=sale_pb2.SALE_STATE_CLOSED))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.UpdateSale(update(sku=sku, state=sale_pb2.SALE_STATE_OPEN))
    assert reason_of(caught.value) == "SALE_STATE"


@one_server
async def test_silent_redis_is_unavailable_within_the_deadline(running: Running) -> None:
    """A reservation whose reply does not come is OUTCOME_UNKNOWN; asked again, it is known."""
    sku, item = (await running.create()).terms.sku, attempt()
    await running.kit.redis.client_pause(4_000, all=True)
    started_s = asyncio.get_running_loop().time()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.reserve(sku, item)
    assert asyncio.get_running_loop().time() - started_s < 3.5
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) in {"OUTCOME_UNKNOWN", "DEPENDENCY_UNAVAILABLE"}
    assert details_of(caught.value) == ["retry"]
    await asyncio.wait_for(running.kit.redis.ping(), 20)

    async def told() -> inventory_pb2.ReserveResult | None:
        # Until the store, which was silent for longer than a lease, is confirmed again.
        try:
            return await running.reserve(sku, item)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    result = await eventually(told)
    assert result is not None
    assert result.outcome == RESERVED
    assert await running.kit.left(sku) == 9


@one_server
async def test_watchers_hear_that_all_holds_only_while_redis_can_be_read(running: Running) -> None:
    """Empty messages come by themselves, stop while Redis is silent, and come again."""
    now_s = asyncio.get_running_loop().time
    stream = aiter(running.stub.WatchSales(inventory_pb2.WatchSalesRequest()))
    async with asyncio.timeout(20):
        assert (await anext(stream)).complete
        started_s = now_s()
        await running.kit.redis.client_pause(3_000, all=True)
        arrived_s = [started_s]
        while arrived_s[-1] < started_s + 3:
            assert not (await anext(stream)).ByteSize()
            arrived_s.append(now_s())
    # They come every second; but for the pause no two are so far apart.
    assert max(later - earlier for earlier, later in itertools.pairwise(arrived_s)) > 2
