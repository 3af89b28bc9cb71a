"""Webhooks: delivered in order, again after a refusal, endpoints beside each other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from zlib import crc32

import pytest
from aiohttp import web

from order_svc.db.statements import statement
from order_svc.webhooks.deliveries import Delivery
from order_svc.webhooks.sender import Answer
from tests.kits.factories import new_id
from tests.kits.waiting import eventually
from tests.kits.webhooks import (
    Received,
    Receiver,
    WebhookBench,
    accept,
    endpoint_of,
    open_webhook_bench,
    receiving,
)

LONG_S = 300.0
REFUSED = Answer(500, "answered 500")


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


async def test_what_is_not_acknowledged_is_sent_again_under_the_same_id(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """After refusals, silence, and redirects, which are not followed."""
    stuck = asyncio.Event()

    async def moody(_: Received) -> web.StreamResponse | int:
        match len(receiver.requests):
            case 1:
                return 500
            case 2:
                await stuck.wait()
                return 204
            case 3:
                return web.Response(status=307, headers={"location": elsewhere.url})
            case 4:
                return 404
        return 204

    receiver.answer = moody
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    async with receiving() as elsewhere:
        async with bench.delivering(endpoint, order_webhook_timeout_s=0.5):
            await receiver.got(5)
            await bench.settled()
            stuck.set()
        assert not elsewhere.requests
    assert set(receiver.ids()) == {f"{number}/created"}
    assert len({received.body for received in receiver.requests}) == 1
    for received in receiver.requests:
        assert received.verified_by(endpoint.secret.get_secret_value())


async def test_given_up_after_its_attempts_and_kept(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """The dead letter says what was wrong; nothing more is sent of it, and others go on."""

    async def against_created(received: Received) -> web.StreamResponse | int:
        return (
            web.Response(status=422, text="no <such> order") if "/created" in received.id else 200
        )

    receiver.answer = against_created
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    async with bench.delivering(endpoint, order_webhook_attempts_max=3):
        (row,) = await bench.dead(1)
        await bench.pay(number)
        await eventually(bench.rows, lambda rows: len(rows) == 1 and len(receiver.accepted) == 1)
    assert receiver.ids() == [f"{number}/created"] * 3 + [f"{number}/paid"]
    assert (row["attempts"], row["answer"]) == (3, 422)
    assert row["error"] == "answered 422: no <such> order"


async def test_events_of_an_order_arrive_in_their_order(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """Two replicas, failed attempts at random places: what is accepted is never out of order."""
    tries: Counter[str] = Counter()

    async def hesitant(received: Received) -> int:
        tries[received.id] += 1
        # About every third event is taken at once, others after one or two refusals.
        return 204 if tries[received.id] > crc32(received.id.encode()) % 3 else 503

    receiver.answer = hesitant
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    numbers = await bench.reserve(20)
    for number in numbers[:10]:
        await bench.pay(number)
    async with bench.delivering(endpoint), bench.delivering(endpoint):
        for number in numbers[10:]:
            await bench.pay(number)
        for number in numbers:
            await bench.orders.refund(number, refund_id=new_id("refund"), restock=True)
        await bench.settled()
    told: dict[str, list[int]] = {}
    for received in receiver.accepted:
        data = received.event["data"]
        told.setdefault(data["order"]["orderNo"], []).append(int(data["sequence"]))
    assert sorted(told) == numbers
    for sequences in told.values():
        assert len(sequences) == 3
        assert all(first < second for first, second in pairwise(sequences))


async def test_next_event_of_an_order_may_be_sent_once_the_one_before_is_settled(
    bench: WebhookBench,
) -> None:
    """Delivered or given up: either way it is due that moment, and not before."""
    endpoint = endpoint_of("http://127.0.0.1:1/")
    await bench.register(endpoint)
    numbers = await bench.reserve(2)
    for number in numbers:
        await bench.pay(number)

    async def claim() -> list[Delivery]:
        return (await bench.deliveries.claim("shop", limit=10, lease_s=LONG_S))[1]

    first, second = await claim()
    assert [one.row["kind"] for one in (first, second)] == ["created", "created"]
    assert await claim() == []
    # Not for as long as the claim lasts: it may have been finished while the next one was put off.
    await bench.sql.execute(
        "UPDATE webhook_deliveries SET due_at = now() WHERE claimed_until IS NULL"
    )
    assert await claim() == []
    waits = await bench.sql.fetch(
        "SELECT due_at - now() AS wait FROM webhook_deliveries WHERE claimed_until IS NULL"
    )
    assert all(row["wait"] < timedelta(seconds=LONG_S / 2) for row in waits)
    await bench.deliveries.finish(first)
    (paid,) = await claim()
    assert (paid.row["order_no"], paid.row["kind"]) == (first.row["order_no"], "paid")
    await bench.deliveries.fail(second, REFUSED, delay_s=LONG_S, attempts_max=2, age_max_s=LONG_S)
    assert await claim() == []
    await bench.sql.execute("UPDATE webhook_deliveries SET due_at = now() WHERE attempts = 1")
    (second,) = await claim()
    await bench.deliveries.fail(second, REFUSED, delay_s=LONG_S, attempts_max=2, age_max_s=LONG_S)
    (paid,) = await claim()
    assert (paid.row["order_no"], paid.row["kind"]) == (second.row["order_no"], "paid")


async def test_endpoint_that_hangs_delays_no_other(bench: WebhookBench, receiver: Receiver) -> None:
    """All its requests in flight are stuck; the other one receives everything meanwhile."""
    stuck = asyncio.Event()

    async def hang(_: Received) -> int:
        await stuck.wait()
        return 204

    async with receiving() as hanging:
        hanging.answer = hang
        slow = endpoint_of(hanging.url, name="slow")
        quick = endpoint_of(receiver.url, name="quick")
        await bench.register(slow, quick)
        async with bench.delivering(
            slow, quick, order_webhook_concurrency=4, order_webhook_timeout_s=300.0
        ):
            first = await bench.reserve(20)
            await hanging.got(4)
            second = await bench.reserve(20)
            await receiver.got(40)
            assert len(hanging.requests) == 4
            stuck.set()
            await bench.settled()
    expected = sorted(f"{number}/created" for number in first + second)
    assert sorted(receiver.ids()) == sorted(hanging.ids()) == expected


async def test_uncommitted_event_is_not_delivered(bench: WebhookBench, receiver: Receiver) -> None:
    """Neither while the transaction is open nor after it was rolled back."""
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    async with bench.delivering(endpoint):
        await receiver.got(1)
        payment = bench.payment(number)
        transaction = bench.sql.transaction()
        await transaction.start()
        facts = ("psp", "never", number, payment.amount_minor, payment.currency, "", False, "")
        recorded = await bench.sql.fetchval(statement("payments/record_payment"), *facts)
        assert recorded == "applied"
        (other,) = await bench.reserve()
        await receiver.got(2)
        await transaction.rollback()
        (last,) = await bench.reserve()
        await receiver.got(3)
        await bench.settled()
    assert receiver.ids() == [f"{one}/created" for one in (number, other, last)]


async def test_long_answers_are_not_read(bench: WebhookBench) -> None:
    """A receiver that answers without end holds nothing up, whether it refuses or accepts."""
    statuses = iter([b"500 No", b"200 OK"])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + next(statuses) + b"\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x" * 65_536)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        endpoint = endpoint_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await bench.register(endpoint)
        await bench.reserve()
        async with bench.delivering(endpoint, order_webhook_timeout_s=300.0):
            await bench.settled()
    assert next(statuses, None) is None


async def test_endpoint_that_asks_for_quiet_is_left_alone(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """Retry-After holds for all that goes there, and no longer than the bound."""
    refusals = iter(["1", "86400"])

    async def busy(_: Received) -> web.StreamResponse:
        wait = next(refusals, None)
        return (
            web.Response(status=204)
            if wait is None
            else web.Response(status=429, headers={"retry-after": wait})
        )

    receiver.answer = busy
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    await bench.reserve(2)
    async with bench.delivering(
        endpoint, order_webhook_concurrency=1, order_webhook_retry_after_max_s=1.5
    ):
        await bench.settled()
    first, second, third, _ = receiver.requests
    assert second.at_s - first.at_s >= 1.0
    assert third.at_s - second.at_s >= 1.5


async def test_healthy_receiver_gets_everything_once(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """Three replicas share the work."""
    receiver.answer = accept
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    async with (
        bench.delivering(endpoint),
        bench.delivering(endpoint),
        bench.delivering(endpoint),
    ):
        numbers = [number for _ in range(3) for number in await bench.reserve(100)]
        await bench.settled()
    assert sorted(receiver.ids()) == sorted(f"{number}/created" for number in numbers)
