"""Webhooks that will not be sent: endpoints gone or removed, events too old."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from prometheus_client import REGISTRY

from tests.kits.waiting import eventually
from tests.kits.webhooks import (
    Received,
    Receiver,
    WebhookBench,
    endpoint_of,
    open_webhook_bench,
    receiving,
)

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


def gauge(name: str) -> float:
    """What the last round of the maintenance has counted for the endpoint `shop`."""
    value = REGISTRY.get_sample_value(f"seckill_webhook_{name}", {"endpoint": "shop"})
    assert value is not None
    return value


async def test_endpoint_that_is_gone_is_told_nothing_more(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """410 stops everything to it; what waits becomes dead letters, which say so."""

    async def gone(_: Received) -> int:
        return 410

    receiver.answer = gone
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    await bench.reserve(3)
    async with bench.delivering(endpoint, order_webhook_concurrency=1):

        async def looked() -> asyncpg.Record:
            return await bench.sql.fetchval("SELECT gone_at FROM webhook_endpoints")

        await eventually(looked)
        await eventually(bench.rows, lambda rows: sum(row["attempts"] for row in rows) == 1)
        await bench.maintenance(endpoint).run_once()
        rows = await bench.dead(3)
        await bench.reserve()
    assert len(receiver.requests) == 1
    assert gauge("dead_letters") == 3
    assert all("410 Gone" in row["error"] for row in rows)


async def test_endpoint_taken_out_of_the_settings_is_retired(bench: WebhookBench) -> None:
    """Not while any replica names it, and not at once; then nothing is queued for it any more."""
    kept, removed = endpoint_of("http://a.example/", name="kept"), endpoint_of("http://b.example/")
    await bench.maintenance(kept, removed).run_once()
    # A replica with other settings, older or newer, removes nothing of the others.
    await bench.maintenance(kept).run_once()
    await bench.maintenance().run_once()
    await bench.reserve()
    assert {row["endpoint"] for row in await bench.rows()} == {"kept", "shop"}
    await bench.sql.execute("UPDATE webhook_endpoints SET named_at = now() - interval '1 h'")
    await bench.maintenance(kept).run_once()
    (row,) = await bench.dead(1)
    assert row["endpoint"] == "shop"
    assert "not configured" in row["error"]
    await bench.reserve()
    assert [row["endpoint"] for row in await bench.rows()] == ["kept", "shop", "kept"]


async def test_what_is_too_old_is_given_up_and_what_is_dead_is_kept_a_while(
    bench: WebhookBench,
) -> None:
    """Whether it was ever tried or not; but never what a replica is sending."""
    endpoint = endpoint_of("http://127.0.0.1:1/")
    await bench.register(endpoint)
    await bench.reserve(2)
    await bench.sql.execute("UPDATE webhook_deliveries SET queued_at = now() - interval '1 h'")
    await bench.reserve()
    _, (claimed,) = await bench.deliveries.claim("shop", limit=1, lease_s=LONG_S)
    await bench.maintenance(endpoint, order_webhook_age_max_s=60.0).run_once()
    (dead,) = await bench.dead(1)
    assert dead["id"] != claimed.id
    assert dead["error"] == "not delivered in time"
    assert (gauge("waiting"), gauge("dead_letters")) == (2, 1)
    assert gauge("oldest_age_seconds") > 0
    await bench.sql.execute(
        "UPDATE webhook_deliveries SET dead_at = now() - interval '1 h' WHERE id = $1", dead["id"]
    )
    await bench.maintenance(endpoint, order_webhook_dead_keep_s=7_200.0).run_once()
    assert len(await bench.rows()) == 3
    await bench.maintenance(endpoint, order_webhook_dead_keep_s=60.0).run_once()
    assert [row["dead_at"] for row in await bench.rows()] == [None, None]


async def test_replicas_with_other_lists_of_events_lose_none(bench: WebhookBench) -> None:
    """While a new list is rolled out the old replica goes on naming its own; then that is over."""
    old = endpoint_of("http://a.example/", events=["paid"])
    new = endpoint_of("http://a.example/", events=["created", "paid"])
    for endpoint in (old, new, old):
        await bench.maintenance(endpoint).run_once()
    await bench.reserve()
    assert [row["kind"] for row in await bench.rows()] == ["created"]
    await bench.sql.execute(
        "UPDATE webhook_endpoints SET kinds_named = kinds_named || jsonb_build_object("
        "'created', now() - interval '1 h')"
    )
    await bench.maintenance(old).run_once()
    await bench.reserve()
    assert len(await bench.rows()) == 1
