"""Webhooks that nobody will send: endpoints gone or taken out, events too old."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from prometheus_client import REGISTRY

from tests.waiting import eventually
from tests.webhook_kit import Books, Received, Receiver, endpoint_of, open_books, receiving

LONG_S = 300.0


@pytest.fixture
async def books(database_dsn: str) -> AsyncIterator[Books]:
    """Books of the test's own."""
    async with open_books(database_dsn) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of the test's own."""
    async with receiving() as running:
        yield running


def gauge(name: str) -> float:
    """What the last round of the upkeep has counted for the endpoint `shop`."""
    value = REGISTRY.get_sample_value(f"seckill_webhook_{name}", {"endpoint": "shop"})
    assert value is not None
    return value


async def test_endpoint_that_is_gone_is_told_nothing_more(books: Books, receiver: Receiver) -> None:
    """410 stops everything to it; what waits becomes dead letters, which say so."""

    async def gone(_: Received) -> int:
        return 410

    receiver.answer = gone
    endpoint = endpoint_of(receiver.url)
    await books.name(endpoint)
    await books.reserve(3)
    async with books.delivering(endpoint, order_webhook_concurrency=1):

        async def looked() -> asyncpg.Record:
            return await books.sql.fetchval("SELECT gone_at FROM webhook_endpoints")

        await eventually(looked)
        await eventually(books.rows, lambda rows: sum(row["attempts"] for row in rows) == 1)
        await books.upkeep(endpoint).run_once()
        rows = await books.dead(3)
        await books.reserve()
    assert len(receiver.requests) == 1
    assert gauge("dead_letters") == 3
    assert all("410 Gone" in row["error"] for row in rows)


async def test_endpoint_taken_out_of_the_settings_is_retired(books: Books) -> None:
    """Not while any replica names it, and not at once; then nothing is queued for it any more."""
    kept, removed = endpoint_of("http://a.example/", name="kept"), endpoint_of("http://b.example/")
    await books.upkeep(kept, removed).run_once()
    # A replica with other settings, older or newer, takes nothing away from the others.
    await books.upkeep(kept).run_once()
    await books.upkeep().run_once()
    await books.reserve()
    assert {row["endpoint"] for row in await books.rows()} == {"kept", "shop"}
    await books.sql.execute("UPDATE webhook_endpoints SET named_at = now() - interval '1 h'")
    await books.upkeep(kept).run_once()
    (row,) = await books.dead(1)
    assert row["endpoint"] == "shop"
    assert "in nobody's settings" in row["error"]
    await books.reserve()
    assert [row["endpoint"] for row in await books.rows()] == ["kept", "shop", "kept"]


async def test_what_is_too_old_is_given_up_and_what_is_dead_is_kept_a_while(books: Books) -> None:
    """Whether it was ever tried or not; but never what somebody is sending."""
    endpoint = endpoint_of("http://127.0.0.1:1/")
    await books.name(endpoint)
    await books.reserve(2)
    await books.sql.execute("UPDATE webhook_deliveries SET queued_at = now() - interval '1 h'")
    await books.reserve()
    _, (claimed,) = await books.deliveries.claim("shop", limit=1, lease_s=LONG_S)
    await books.upkeep(endpoint, order_webhook_age_max_s=60.0).run_once()
    (dead,) = await books.dead(1)
    assert dead["id"] != claimed.id
    assert dead["error"] == "not delivered in time"
    assert (gauge("waiting"), gauge("dead_letters")) == (2, 1)
    assert gauge("oldest_age_seconds") > 0
    await books.sql.execute(
        "UPDATE webhook_deliveries SET dead_at = now() - interval '1 h' WHERE id = $1", dead["id"]
    )
    await books.upkeep(endpoint, order_webhook_dead_keep_s=7_200.0).run_once()
    assert len(await books.rows()) == 3
    await books.upkeep(endpoint, order_webhook_dead_keep_s=60.0).run_once()
    assert [row["dead_at"] for row in await books.rows()] == [None, None]
