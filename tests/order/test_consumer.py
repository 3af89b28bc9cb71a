"""The consumer on real stores: redelivery, poison, and stores that stop answering."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from devstack import Stores
from order_svc.intake.dead_letter_queue import open_dead_letter_queue
from order_svc.intake.dead_letters import DeadLetter, DeadLetterWriter
from order_svc.orders.projection import key_of
from seckill.errors import DependencyUnavailable
from seckill.runtime.delay import delay_key
from seckill.v1 import events_pb2, order_pb2
from tests.kits.consumer import (
    WAIT_TIMEOUT_S,
    Bench,
    OwnTopics,
    WatchedWriter,
    number_of,
    open_bench,
    read_dead_letters,
    reservations,
)
from tests.kits.factories import sale_terms
from tests.kits.waiting import eventually


class FailsOnce:
    """Stands before a method, and dies in its place at the first call."""

    def __init__(self, inner: object, method: str) -> None:
        self._inner = inner
        self._method = method
        self.failed = False

    def __getattr__(self, name: str) -> object:
        if name == self._method and not self.failed:
            self.failed = True
            return self._die
        return getattr(self._inner, name)

    async def _die(self, *_: object) -> None:
        raise ProcessDied


class ProcessDied(BaseException):
    """What a process that is killed at this point does: nothing more."""


@pytest.fixture
async def bench(
    stores: Stores, database_dsn: str, redis_url: str, topics: OwnTopics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    async with open_bench(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as opened:
        yield opened


async def test_reservations_become_orders_delays_and_projection(bench: Bench) -> None:
    """Each message is a row, an entry of the delay set at its expiry, and readable in Redis."""
    sku = await bench.sale()
    values = reservations(sku, 200)
    await bench.send(values)
    result = await bench.drain(bench.consumer(), 200)
    assert (result.written, result.dead) == (200, 0)
    assert await bench.counts(sku) == (200, 200, 200, 200)
    assert await bench.committed() == 200
    number = number_of(values[0])
    (encoded,), _ = await bench.projection.read([number])
    assert encoded is not None
    order = order_pb2.Order.FromString(encoded)
    assert order.order_no == number
    assert order.state == order_pb2.ORDER_STATE_PENDING
    assert await bench.redis.zscore(delay_key(), number) == order.expire_time.ToMilliseconds()


@pytest.mark.parametrize("replay", ["offsets", "messages"])
async def test_batch_delivered_again_changes_nothing(bench: Bench, replay: str) -> None:
    """Rows, units sold, ledger and delays are the same after the second time."""
    sku = await bench.sale()
    values = reservations(sku, 100)
    await bench.send(values)
    await bench.drain(bench.consumer(), 100)
    before = await bench.counts(sku)
    if replay == "messages":
        await bench.send(values)
    else:
        changed = {"order_consumer_group": f"group-{uuid.uuid4().hex}"}
        bench.settings = bench.settings.model_copy(update=changed)
    result = await bench.drain(bench.consumer(), 100)
    assert result.written == 0
    assert await bench.counts(sku) == before == (100, 100, 100, 100)


@pytest.mark.parametrize(
    ("part", "method"), [("delays", "add"), ("projection", "fill"), ("dead_letters", "write")]
)
async def test_death_after_the_commit_is_made_good_by_redelivery(
    bench: Bench, part: str, method: str
) -> None:
    """Killed before the delay set, the projection or the offset: the next replica completes it."""
    sku = await bench.sale()
    values = reservations(sku, 50)
    await bench.send(values)
    dying = FailsOnce(getattr(bench, part), method)
    with pytest.raises(ProcessDied):
        await bench.drain(bench.consumer(**{part: dying}), 50)
    assert await bench.committed() == 0
    assert (await bench.counts(sku))[0] > 0
    await bench.drain(bench.consumer(), 50)
    assert await bench.counts(sku) == (50, 50, 50, 50)
    keys = [key_of(number_of(value)) for value in values]
    assert None not in await bench.redis.mget(keys)
    assert await bench.committed() == 50


async def test_delay_of_an_order_paid_meanwhile_is_not_added(bench: Bench) -> None:
    """Redelivery adds delays of pending orders only, and does not undo a newer projection."""
    sku = await bench.sale()
    (value,) = reservations(sku, 1)
    await bench.send([value])
    await bench.drain(bench.consumer(), 1)
    number = number_of(value)
    await bench.sql.execute(
        "UPDATE orders SET status = 'paid', paid_at = now(), payment_id = 'p' WHERE sku = $1", sku
    )
    await bench.redis.set(key_of(number), b"newer")
    await bench.redis.delete(delay_key())
    await bench.send([value])
    await bench.drain(bench.consumer(), 1)
    assert await bench.redis.zcard(delay_key()) == 0
    assert await bench.redis.get(key_of(number)) == b"newer"


async def test_poison_is_isolated_to_its_messages(bench: Bench) -> None:
    """Of a batch of 500 all but the poison become orders; each bad one is a dead letter."""
    sku = await bench.sale()
    unknown = reservations("never-registered", 1)
    broken = b"\xff\xff poison"
    await bench.send([*reservations(sku, 250), broken, *reservations(sku, 248), *unknown])
    result = await bench.drain(bench.consumer(), 500)
    assert (result.written, result.dead) == (498, 2)
    assert (await bench.counts(sku))[:2] == (498, 498)
    assert await bench.committed() == 500
    letters = {letter.value: dict(letter.headers) for letter in await bench.letters(2)}
    assert set(letters) == {broken, unknown[0]}
    headers = letters[broken]
    assert headers["error_cause"] == b"undecodable"
    assert headers["original_topic"].decode() == bench.settings.orders_topic
    assert headers["ce_type"] == b"seckill.order.dead_letter.v1"
    assert {"error", "original_partition", "original_offset", "original_time"} <= set(headers)
    assert {"ce_id", "ce_source", "ce_specversion", "ce_time", "content-type"} <= set(headers)


async def plant_refusal(bench: Bench, *, users: Sequence[str], when: str) -> None:
    """Make the database refuse orders of these buyers."""
    names = ", ".join(f"'{user}'" for user in users)
    await bench.sql.execute(
        f"""
        CREATE FUNCTION refuse_order() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no such buyer' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER refuse_order BEFORE INSERT ON orders FOR EACH ROW
            WHEN (NEW.user_id IN ({names}) AND {when}) EXECUTE FUNCTION refuse_order();
        """
    )


def user_of(value: bytes) -> str:
    """The buyer in a message."""
    return events_pb2.OrderReserved.FromString(value).user_id


async def test_message_that_the_database_refuses_is_isolated(bench: Bench) -> None:
    """Of 500 all but one become orders; the bad one is a dead letter, and its units return."""
    sku = await bench.sale()
    values = reservations(sku, 500)
    bad = values[321]
    await plant_refusal(bench, users=[user_of(bad)], when="NEW.status = 'pending'")
    await bench.send(values)
    result = await bench.drain(bench.consumer(), 500)
    assert result.dead == 1
    assert await bench.counts(sku) == (499, 500, 500, 499)
    (letter,) = await bench.letters(1)
    headers = dict(letter.headers)
    assert letter.value == bad
    assert (headers["error_cause"], headers["units"]) == (b"refused", b"returned")
    assert headers["order_no"].decode() == number_of(bad)
    unrestored = await bench.sql.fetch("SELECT order_no FROM restore_outbox")
    assert [row["order_no"] for row in unrestored] == [number_of(bad)]
    (encoded,), _ = await bench.projection.read([number_of(bad)])
    assert order_pb2.Order.FromString(encoded or b"").state == order_pb2.ORDER_STATE_REJECTED


async def test_message_refused_in_every_form_says_that_its_units_are_held(bench: Bench) -> None:
    """If not even a rejected order can be written, the letter says so."""
    sku = await bench.sale()
    values = reservations(sku, 20)
    await plant_refusal(bench, users=[user_of(values[3])], when="true")
    await bench.send(values)
    result = await bench.drain(bench.consumer(), 20)
    assert (result.written, result.dead) == (19, 1)
    (letter,) = await bench.letters(1)
    assert dict(letter.headers)["units"] == b"held"


async def test_fault_of_the_database_makes_no_dead_letters(bench: Bench) -> None:
    """If it refuses more than a few, none is moved; once it takes them, all are written."""
    bench.settings = bench.settings.model_copy(update={"order_refused_max": 3})
    sku = await bench.sale()
    values = reservations(sku, 64)
    await plant_refusal(bench, users=[user_of(value) for value in values[:40]], when="true")
    await bench.send(values)
    consumer = bench.consumer()
    async with bench.client(consumer) as client, asyncio.timeout(WAIT_TIMEOUT_S):
        # Its pause doubles with each batch that it could not bring through.
        while consumer._backoff_s < 4 * bench.settings.order_backoff_min_s:
            assert (await consumer.run_once(client)).dead == 0
    assert await bench.committed() == 0
    await bench.sql.execute("DROP TRIGGER refuse_order ON orders")
    await bench.drain(bench.consumer(), 64)
    assert await bench.counts(sku) == (64, 64, 64, 64)


async def test_units_of_a_broken_message_return_where_they_can_be_told(bench: Bench) -> None:
    """A reservation that breaks the contract beside its identity becomes a rejected order."""
    sku = await bench.sale()
    (value,) = reservations(sku, 1)
    broken = events_pb2.OrderReserved.FromString(value)
    broken.request_id = "has spaces\n"
    (stray,) = reservations("never-registered", 1)
    await bench.send([broken.SerializeToString(), stray, b"\xff noise"])
    await bench.drain(bench.consumer(), 3)
    letters = {letter.value: dict(letter.headers) for letter in await bench.letters(3)}
    units = {headers["error_cause"]: headers["units"] for headers in letters.values()}
    assert letters[broken.SerializeToString()]["units"] == b"returned"
    assert letters[b"\xff noise"]["units"] == b"unknown"
    assert units[b"unknown_sku"] == b"held"
    assert b"redrive" in letters[stray]["advice"]
    assert letters[stray]["order_no"].decode() == number_of(stray)
    order = await bench.sql.fetchrow("SELECT status, cancel_reason FROM orders")
    assert tuple(order) == ("rejected", "invalid")


async def test_redriven_letter_becomes_an_order_once_its_cause_is_fixed(bench: Bench) -> None:
    """Events of a sale that was not registered: registered, redriven, written, settled."""
    terms = sale_terms()
    await bench.send(reservations(terms.sku, 3))
    assert (await bench.drain(bench.consumer(), 3)).dead == 3
    await bench.sales.register(terms)
    brokers, topic = bench.settings.kafka_bootstrap, bench.settings.dead_letter_topic
    letters = await read_dead_letters(brokers, topic)
    assert {letter.header("units") for letter in letters} == {"held"}
    positions = [letter.position for letter in letters]
    async with open_dead_letter_queue(bench.settings, bench.clock) as queue:
        assert (await queue.redrive(positions, operator="olga")).settled == 3
        await bench.drain(bench.consumer(), 3)
        assert await bench.counts(terms.sku) == (3, 3, 3, 3)
        again = await queue.redrive(positions, operator="olga")
    assert again.settled == 0
    assert all("redriven" in reason for reason in again.refused.values())


async def test_message_without_key_and_value_is_a_dead_letter(bench: Bench) -> None:
    """Such messages exist, though our own client sends none."""
    await bench.send([b"x"])
    async with bench.client(bench.consumer()) as client, asyncio.timeout(WAIT_TIMEOUT_S):
        record = await client.getone()
    processor = bench.processor()
    empty = dataclasses.replace(record, key=None, value=None)
    assert (await processor.run_once([empty])).dead == 1
    assert (await bench.letters(1))[0].value == b""


async def test_rate_is_kept(bench: Bench) -> None:
    """Four hundred messages at two hundred a second take more than a second."""
    bench.settings = bench.settings.model_copy(update={"order_rate_max_per_s": 200})
    sku = await bench.sale()
    await bench.send(reservations(sku, 400))
    consumer = bench.consumer()
    async with bench.client(consumer) as client, asyncio.timeout(WAIT_TIMEOUT_S):
        read, started_s = 0, 0.0
        while read < 400:
            if not read:
                started_s = time.monotonic()
            result = await consumer.run_once(client)
            assert result.read <= 200
            read += result.read
    assert time.monotonic() - started_s >= 200 / 200


class Unwritable(DeadLetterWriter):
    """Dead letters on a broker that does not answer."""

    def __init__(self) -> None:
        self.tries = 0

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        del letters
        self.tries += 1
        raise DependencyUnavailable("dead letters cannot be written")


async def test_offset_stays_while_dead_letters_cannot_be_written(bench: Bench) -> None:
    """A poison message is met again and again until its dead letter is written."""
    await bench.send([b"\xff\xff poison"])
    unwritable = Unwritable()
    consumer = bench.consumer(dead_letters=unwritable)
    async with bench.client(consumer) as client, asyncio.timeout(WAIT_TIMEOUT_S):
        while unwritable.tries < 3:
            assert (await consumer.run_once(client)).read == 0
    assert await bench.committed() == 0
    result = await bench.drain(bench.consumer(), 1)
    assert result.dead == 1


async def test_consumer_resumes_by_itself_when_the_table_is_free_again(bench: Bench) -> None:
    """While Postgres does not answer nothing moves; then all is written without a restart."""
    sku = await bench.sale()
    await bench.send(reservations(sku, 30))
    writer = WatchedWriter(bench.database)
    running = asyncio.create_task(bench.consumer(writer=writer).run())

    async def refused_twice() -> bool:
        return writer.refused >= 2

    async def written() -> bool:
        return await bench.counts(sku) == (30, 30, 30, 30)

    try:
        async with bench.sql.transaction():
            await bench.sql.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            await eventually(refused_twice)
            assert await bench.committed() == 0
        await eventually(written)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_two_consumers_share_the_work(bench: Bench) -> None:
    """Two replicas of one group write every reservation, once, however partitions move."""
    sku = await bench.sale()
    running = [asyncio.create_task(bench.consumer().run()) for _ in range(2)]
    try:
        for _ in range(10):
            await bench.send(reservations(sku, 60))

        async def written() -> bool:
            return await bench.counts(sku) == (600, 600, 600, 600)

        await eventually(written)
    finally:
        # Until they end: asyncio.wait_for of Python 3.11, which aiokafka uses, drops a cancellation
        # that comes as what it waits for is done.
        while still := [task for task in running if not task.done()]:
            for task in still:
                task.cancel()
            await asyncio.wait(still, timeout=1.0)
