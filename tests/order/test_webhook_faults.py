"""Webhooks if a replica dies, ends or does not start, or a store does not answer."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack import Stores
from order_svc.db.database import Database
from order_svc.events.relay import EventRelay
from order_svc.webhooks import dispatcher
from order_svc.webhooks.deliveries import Deliveries, Delivery
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.sender import Answer
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import open_writer
from tests.kits.stores import Topics
from tests.kits.waiting import eventually
from tests.kits.webhooks import (
    Received,
    Receiver,
    WebhookBench,
    endpoint_of,
    open_webhook_bench,
    receiving,
)

ROOT = Path(__file__).parents[2]
ENDED_TIMEOUT_S = 60.0
REFUSED = Answer(500, "answered 500")
LONG_S = 300.0


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


def process_settings(stores: Stores, topics: Topics, redis_url: str, dsn: str) -> dict[str, str]:
    """Of an order process on free ports."""
    inherited = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
    return {
        **inherited,
        "SECKILL_PROFILE": "development",
        "SECKILL_POSTGRES_DSN": dsn,
        "SECKILL_REDIS_URL": redis_url,
        "SECKILL_REDIS_CLUSTER": str(stores.redis_cluster).lower(),
        "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
        "SECKILL_ORDERS_TOPIC": topics.orders,
        "SECKILL_DEAD_LETTER_TOPIC": topics.dead_letters,
        "SECKILL_ORDER_LISTEN": "127.0.0.1:0",
        "SECKILL_ORDER_METRICS_LISTEN": "127.0.0.1:0",
    }


def as_setting(endpoint: Endpoint) -> str:
    """What an operator writes."""
    facts = endpoint.model_dump(mode="json") | {"secret": endpoint.secret.get_secret_value()}
    return json.dumps([facts])


async def test_what_a_killed_process_had_claimed_is_sent_by_another(
    stores: Stores,
    topics: Topics,
    redis_url: str,
    database_dsn: str,
    bench: WebhookBench,
    receiver: Receiver,
) -> None:
    """SIGKILL after the endpoint had it and before that was noted: it comes again, same id."""
    endpoint = endpoint_of(receiver.url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "order_svc"),
        env={
            **process_settings(stores, topics, redis_url, database_dsn),
            "SECKILL_ORDER_WEBHOOK_ENDPOINTS": as_setting(endpoint),
            "SECKILL_ORDER_WEBHOOK_TIMEOUT_S": "2",
            "SECKILL_ORDER_WEBHOOK_LEASE_S": "4",
            "SECKILL_FAILPOINTS": "webhook.after_send:1:kill",
        },
        cwd=ROOT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:

        async def named() -> int:
            return int(await bench.sql.fetchval("SELECT count(*) FROM webhook_endpoints"))

        await eventually(named, timeout_s=ENDED_TIMEOUT_S)
        (number,) = await bench.reserve()
        async with asyncio.timeout(ENDED_TIMEOUT_S):
            assert await process.wait() == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert receiver.ids() == [f"{number}/created"]
    (row,) = await bench.rows()
    assert row["claimed_until"] is not None
    async with bench.delivering(endpoint):
        await receiver.got(2)
        await bench.settled()
    assert receiver.ids() == [f"{number}/created"] * 2


async def test_claim_that_ran_out_belongs_to_the_next(bench: WebhookBench) -> None:
    """No other replica has it before; afterwards the first one's failure changes nothing."""
    endpoint = endpoint_of("http://127.0.0.1:1/")
    await bench.register(endpoint)
    await bench.reserve()
    _, (short,) = await bench.deliveries.claim("shop", limit=10, lease_s=0.3)

    async def again() -> list[Delivery]:
        return (await bench.deliveries.claim("shop", limit=10, lease_s=LONG_S))[1]

    (second,) = await eventually(again)
    assert second.claimed_until > short.claimed_until
    assert not await bench.deliveries.fail(
        short, REFUSED, delay_s=0.0, attempts_max=1, age_max_s=LONG_S
    )
    (row,) = await bench.rows()
    assert (row["attempts"], row["dead_at"]) == (0, None)
    assert await again() == []
    # Delivered is delivered, whichever replica did it.
    await bench.deliveries.finish(short)
    assert await bench.rows() == []


async def test_sessions_ended_again_and_again_lose_nothing(
    bench: WebhookBench, receiver: Receiver, database_dsn: str
) -> None:
    """The dispatcher continues with the database; what it could not record is sent again."""
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    numbers = await bench.reserve(60)
    name = database_dsn.rpartition("/")[2]
    async with bench.delivering(
        endpoint,
        order_webhook_concurrency=2,
        order_webhook_timeout_s=1.0,
        order_webhook_lease_s=2.0,
    ):
        for count in (10, 25, 40):
            await receiver.got(count)
            await bench.sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = $1 AND application_name = 'order_svc'",
                name,
            )
        await bench.settled()
    assert set(receiver.ids()) == {f"{number}/created" for number in numbers}


async def test_replica_that_ends_finishes_what_is_under_way(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """The endpoint answers while the replica drains: nothing is left, nothing comes again."""
    answered = asyncio.Event()

    async def wait(_: Received) -> int:
        await answered.wait()
        return 204

    receiver.answer = wait
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    await bench.reserve()
    async with bench.delivering(endpoint):
        await receiver.got(1)
        asyncio.get_running_loop().call_later(0.2, answered.set)
    assert await bench.rows() == []


async def test_attempts_broken_off_are_free_at_once(
    bench: WebhookBench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that cannot wait any longer gives its claims back, however long they would last."""
    monkeypatch.setattr(dispatcher, "DRAIN_S", 0.05)
    stuck = asyncio.Event()

    async def wait(_: Received) -> int:
        await stuck.wait()
        return 204

    receiver.answer = wait
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    async with bench.delivering(endpoint, order_webhook_lease_s=LONG_S):
        await receiver.got(1)
    (row,) = await bench.rows()
    assert (row["claimed_until"], row["attempts"]) == (None, 0)
    stuck.set()
    async with bench.delivering(endpoint):
        await bench.settled()
    assert receiver.ids() == [f"{number}/created"] * 2


class SlowToAnswer(Deliveries):
    """A database that has claimed, and whose answer is on its way."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.claimed = asyncio.Event()
        self.answers = asyncio.Event()

    async def claim(
        self, endpoint: str, *, limit: int, lease_s: float
    ) -> tuple[int, list[Delivery]]:
        found = await super().claim(endpoint, limit=limit, lease_s=lease_s)
        self.claimed.set()
        await self.answers.wait()
        return found


async def test_claims_whose_answer_comes_as_the_replica_ends_are_free_at_once(
    bench: WebhookBench,
) -> None:
    """Without a release they would wait for their lease to expire."""
    endpoint = endpoint_of("http://127.0.0.1:1/")
    await bench.register(endpoint)
    await bench.reserve()
    slow = bench.deliveries = SlowToAnswer(bench.database)
    async with bench.delivering(endpoint, order_webhook_lease_s=LONG_S):
        await slow.claimed.wait()
        asyncio.get_running_loop().call_later(0.2, slow.answers.set)
    (row,) = await bench.rows()
    assert (row["claimed_until"], row["attempts"]) == (None, 0)


async def test_neither_waits_for_the_other_kafka_or_webhooks(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """Without Kafka webhooks arrive; without the endpoint Kafka's outbox is the same."""
    endpoint = endpoint_of(receiver.url)
    down = endpoint_of("http://127.0.0.1:1/", name="down")
    await bench.register(endpoint, down)
    async with (
        open_writer(KafkaCluster("127.0.0.1:1"), timeout_s=0.5) as nowhere,
        bench.delivering(endpoint, down),
    ):
        (number,) = await bench.reserve()
        with pytest.raises(DependencyUnavailable):
            await EventRelay(bench.settings, bench.database, nowhere).run_once()
        await receiver.got(1)
        await eventually(bench.rows, lambda rows: [row["endpoint"] for row in rows] == ["down"])
    assert receiver.ids() == [f"{number}/created"]
    assert await bench.sql.fetchval("SELECT count(*) FROM order_events") == 1


async def test_bad_endpoints_end_the_process_naming_the_variable(
    stores: Stores, topics: Topics, redis_url: str, database_dsn: str
) -> None:
    """And what is wrong with them, but no secret."""
    endpoint = endpoint_of("http://shop.example/hook")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "order_svc"),
        env={
            **process_settings(stores, topics, redis_url, database_dsn),
            "SECKILL_PROFILE": "production",
            "SECKILL_ORDER_WEBHOOK_ENDPOINTS": as_setting(endpoint),
        },
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(ENDED_TIMEOUT_S):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 2
    assert errors.decode() == (
        "SECKILL_ORDER_WEBHOOK_ENDPOINTS=(secret): shop: url must be https in the"
        " production profile\n"
    )
