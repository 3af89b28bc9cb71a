"""Order events: each transition leaves once or more often, never not at all, and says what was."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from structlog.contextvars import bound_contextvars

from devstack import Stores, create_topics
from order_svc.db.database import Database, open_database
from order_svc.events.relay import EventRelay
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable, PaymentTooLate
from seckill.order_no import make_order_nos
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import KafkaWriter, open_writer
from seckill.v1 import events_pb2, order_pb2
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.waiting import eventually

PARTITIONS = 3


class Outbox:
    """A database with orders, and the topic that their events go to."""

    def __init__(
        self, settings: OrderSettings, database: Database, writer: KafkaWriter, dsn: str
    ) -> None:
        self.settings = settings
        self.database = database
        self.writer = writer
        self.dsn = dsn
        self.orders = OrderRepository(database)
        self.payments = PaymentRepository(database)

    def relay(self) -> EventRelay:
        """One replica's relay."""
        return EventRelay(self.settings, self.database, self.writer)

    async def reserve(self, count: int, *, units: int = 1_000, call_id: str = "") -> list[str]:
        """Orders of a new sale; their numbers, lowest first."""
        terms = sale_terms(units=units)
        await SaleRepository(self.database).register(terms)
        users = [new_id("buyer") for _ in range(count)]
        numbers = make_order_nos(users, now_s=time.time(), rng=random.Random())
        await OrderWriter(self.database).write(
            [
                events_pb2.OrderReserved(
                    order_no=number,
                    sku=terms.sku,
                    user_id=user,
                    request_id="r",
                    quantity=1,
                    call_id=call_id,
                )
                for number, user in zip(numbers, users, strict=True)
            ]
        )
        return sorted(numbers)

    def payment(self, number: str) -> Payment:
        """The right payment."""
        return Payment(
            order_no=number,
            provider="psp",
            payment_id=new_id("payment"),
            amount_minor=PRICE.minor_units,
            currency=PRICE.currency,
            user_id="",
        )

    async def waiting(self) -> int:
        """Events not sent yet."""
        rows = await asyncpg.connect(self.dsn)
        count = await rows.fetchval("SELECT count(*) FROM order_events")
        await rows.close()
        return int(count)

    async def told(self) -> list[ConsumerRecord]:
        """Everything on the topic."""
        client = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap, enable_auto_commit=False
        )
        async with client:
            topic = self.settings.order_events_topic
            partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            client.assign(partitions)
            await client.seek_to_beginning()
            ends = await client.end_offsets(partitions)
            records: list[ConsumerRecord] = []
            async with asyncio.timeout(20):
                while len(records) < sum(ends.values()):
                    found = await client.getmany(timeout_ms=200)
                    records += [record for batch in found.values() for record in batch]
        return records


@pytest.fixture
async def outbox(stores: Stores, database_dsn: str) -> AsyncIterator[Outbox]:
    """An outbox with a topic of the test's own."""
    topic = f"order-events-{uuid.uuid4().hex}"
    await create_topics(stores.kafka_bootstrap, {topic: PARTITIONS})
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": database_dsn,
            "redis_url": "redis://none",
            "kafka_bootstrap": stores.kafka_bootstrap,
            "order_events_topic": topic,
            "order_events_interval_s": 0.02,
            "order_backoff_min_s": 0.02,
            "order_backoff_max_s": 0.1,
        }
    )
    async with (
        open_database(settings) as database,
        open_writer(settings.kafka_cluster(), timeout_s=3.0) as writer,
    ):
        yield Outbox(settings, database, writer, database_dsn)


async def test_each_transition_is_told_with_the_order_as_it_was(outbox: Outbox) -> None:
    """Sent late, an event still shows the order of its own moment, not of today."""
    refunded, cancelled, rejected = await outbox.reserve(3, units=2)
    await outbox.payments.pay(outbox.payment(refunded))
    await outbox.orders.refund(refunded, refund_id=new_id("refund"), restock=True)
    await outbox.orders.cancel(cancelled, user_id="")
    late = outbox.payment(cancelled)
    with pytest.raises(PaymentTooLate):
        await outbox.payments.pay(late)
    await outbox.orders.mark_restored([refunded, cancelled, rejected])
    assert await outbox.relay().run_once() == 7
    assert await outbox.waiting() == 0
    told: dict[str, list[events_pb2.OrderEvent]] = {}
    for record in await outbox.told():
        event = events_pb2.OrderEvent.FromString(record.value or b"")
        assert record.key == event.order.order_no.encode()
        assert not event.order.HasField("restore_time")
        told.setdefault(event.order.order_no, []).append(event)
    created, paid, paid_back = told[refunded]
    assert (created.type, created.order.state) == (
        events_pb2.ORDER_EVENT_TYPE_CREATED,
        order_pb2.ORDER_STATE_PENDING,
    )
    assert not created.order.payment_id
    assert not created.order.HasField("pay_time")
    assert paid.order.state == order_pb2.ORDER_STATE_PAID
    assert paid.order.HasField("pay_time")
    assert not paid.order.HasField("refund_time")
    assert paid_back.order.state == order_pb2.ORDER_STATE_REFUNDED
    assert created.sequence < paid.sequence < paid_back.sequence
    ended, too_late = told[cancelled][1:]
    assert ended.end_reason == events_pb2.ORDER_END_REASON_BUYER
    assert too_late.type == events_pb2.ORDER_EVENT_TYPE_PAYMENT_TOO_LATE
    assert too_late.late_payment.payment_id == late.payment_id
    assert too_late.late_payment.amount == PRICE
    (refused,) = told[rejected]
    assert refused.end_reason == events_pb2.ORDER_END_REASON_NO_STOCK


async def test_message_has_the_attributes_of_a_cloud_event(outbox: Outbox) -> None:
    """All required ones, and an id that says which event it is."""
    (number,) = await outbox.reserve(1, call_id="call-0001")
    await outbox.relay().run_once()
    (record,) = await outbox.told()
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["ce_id"] == f"{number}/created"
    assert headers["ce_type"] == "seckill.order.created.v1"
    assert headers["ce_source"] == "/seckill/order_svc"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_time"].endswith("+00:00")
    assert headers["ce_callid"] == "call-0001"
    assert headers["content-type"] == "application/protobuf"


async def test_each_event_names_the_call_that_caused_it(outbox: Outbox) -> None:
    """One id for each transition and each payment; none where no call is known."""
    first, second = await outbox.reserve(2)
    with bound_contextvars(request_id="call-paid"):
        await outbox.payments.pay(outbox.payment(first))
    with bound_contextvars(request_id="call-refunded"):
        await outbox.orders.refund(first, refund_id=new_id("refund"), restock=True)
    with bound_contextvars(request_id="call-cancelled"):
        await outbox.orders.cancel(second, user_id="")
    with bound_contextvars(request_id="call-owed"):
        await outbox.payments.record(outbox.payment(second))
    await outbox.relay().run_once()
    headers = [dict(record.headers) for record in await outbox.told()]
    found = {one["ce_type"].split(b".")[2]: one.get("ce_callid") for one in headers}
    assert found == {
        b"created": None,
        b"paid": b"call-paid",
        b"refunded": b"call-refunded",
        b"cancelled": b"call-cancelled",
        b"payment_too_late": b"call-owed",
    }


class DiesAfterTheAck(KafkaWriter):
    """The process ends between the acknowledgement and the commit."""

    def __init__(self, writer: KafkaWriter) -> None:
        self._inner = writer

    async def write(self, topic, messages) -> None:  # type: ignore[no-untyped-def]
        await self._inner.write(topic, messages)
        raise DependencyUnavailable("died")


async def test_death_after_the_ack_sends_the_same_events_again(outbox: Outbox) -> None:
    """None is lost; those sent twice have the same id."""
    await outbox.reserve(5)
    dying = EventRelay(outbox.settings, outbox.database, DiesAfterTheAck(outbox.writer))
    with pytest.raises(DependencyUnavailable):
        await dying.run_once()
    assert await outbox.waiting() == 5
    await outbox.relay().run_once()
    ids = [dict(record.headers)["ce_id"] for record in await outbox.told()]
    assert (len(ids), len(set(ids))) == (10, 5)


async def test_events_wait_while_kafka_is_away(outbox: Outbox) -> None:
    """The orders are written all the same, and their events leave when Kafka is back."""
    await outbox.reserve(3)
    async with open_writer(KafkaCluster("127.0.0.1:1"), timeout_s=0.5) as nowhere:
        relay = EventRelay(outbox.settings, outbox.database, nowhere)
        with pytest.raises(DependencyUnavailable):
            await relay.run_once()
    assert await outbox.waiting() == 3
    assert await outbox.relay().run_once() == 3


async def test_replicas_share_the_outbox(outbox: Outbox) -> None:
    """Three relays beside a writer: each event is told, and none of them twice."""
    settings = outbox.settings.model_copy(update={"order_events_batch_max": 50})
    outbox.settings = settings
    relays = [asyncio.create_task(outbox.relay().run()) for _ in range(3)]
    numbers: list[str] = []
    try:
        for _ in range(5):
            numbers += await outbox.reserve(200)
        await eventually(outbox.waiting, lambda count: count == 0)
    finally:
        for task in relays:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*relays)
    keys = [(record.key or b"").decode() for record in await outbox.told()]
    assert sorted(keys) == sorted(numbers)
