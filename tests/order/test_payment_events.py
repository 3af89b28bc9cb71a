"""Payments to be refunded are told on Kafka and by webhooks, with all that a refund needs."""

from collections.abc import AsyncIterator

import pytest
from google.protobuf.json_format import ParseDict

from order_svc.db.statements import statement
from order_svc.events.messages import message_of
from seckill.errors import SeckillError
from seckill.v1 import events_pb2, order_pb2, payment_pb2
from tests.kits.factories import PRICE
from tests.kits.payments import Till, open_till, paid
from tests.kits.webhooks import (
    Receiver,
    WebhookBench,
    endpoint_of,
    open_webhook_bench,
    receiving,
)

UNKNOWN_ORDER = "0" * 26


@pytest.fixture
async def bench(database_dsn: str) -> AsyncIterator[WebhookBench]:
    """WebhookBench of the test's own."""
    async with open_webhook_bench(database_dsn) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of the test's own."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def till(database_dsn: str) -> AsyncIterator[Till]:
    """A sale of the test's own."""
    async with open_till(database_dsn) as opened:
        yield opened


async def test_webhook_tells_what_to_pay_back(bench: WebhookBench, receiver: Receiver) -> None:
    """A second payment and one for no order: both arrive, named, with their reasons."""
    endpoint = endpoint_of(receiver.url, events=["payment_to_refund"])
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    await bench.pay(number)
    second, stray = bench.payment(number), bench.payment(UNKNOWN_ORDER)
    for payment in (second, stray):
        with pytest.raises(SeckillError):
            await bench.payments.pay(payment)
    async with bench.delivering(endpoint):
        await bench.settled()
    events = {
        event["id"]: ParseDict(event["data"], events_pb2.OrderEvent())
        for event in (request.event for request in receiver.requests)
    }
    told = events[f"{number}/payment_to_refund/psp/{second.payment_id}"]
    assert told.type == events_pb2.ORDER_EVENT_TYPE_PAYMENT_TO_REFUND
    assert told.order.state == order_pb2.ORDER_STATE_PAID
    assert told.payment_to_refund.reason == payment_pb2.PAYMENT_REASON_ALREADY_PAID
    assert told.payment_to_refund.amount == PRICE
    assert not told.HasField("late_payment")
    told = events[f"{UNKNOWN_ORDER}/payment_to_refund/psp/{stray.payment_id}"]
    assert told.order == order_pb2.Order(order_no=UNKNOWN_ORDER)
    assert told.payment_to_refund.reason == payment_pb2.PAYMENT_REASON_UNKNOWN_ORDER


async def test_kafka_is_told_of_a_payment_for_no_order(till: Till) -> None:
    """Its event stands in no other's way, and is keyed by the number that was stated."""
    stray = paid(UNKNOWN_ORDER)
    with pytest.raises(SeckillError):
        await till.payments.pay(stray)
    number = await till.order("paid")
    async with till.sql.transaction():
        rows = await till.sql.fetch(statement("events/take_events"), 100)
    messages = [message_of(row) for row in rows]
    assert [message.key for message in messages] == [
        UNKNOWN_ORDER.encode(),
        number.encode(),
        number.encode(),
    ]
    event = events_pb2.OrderEvent.FromString(messages[0].value or b"")
    assert event.payment_to_refund.payment_id == stray.payment_id


async def test_event_shows_the_order_as_the_payment_found_it(till: Till) -> None:
    """A wrong amount came for a pending order, which was paid before the event left."""
    number = await till.order()
    with pytest.raises(SeckillError):
        await till.payments.pay(paid(number, amount_minor=1))
    await till.payments.pay(paid(number))
    async with till.sql.transaction():
        rows = await till.sql.fetch(statement("events/take_events"), 100)
    events = [events_pb2.OrderEvent.FromString(message_of(row).value or b"") for row in rows]
    states = [event.order.state for event in events]
    pending, done = order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_PAID
    assert states == [pending, pending, done]
