"""`seckill webhook`: dead letters are listed, shown, sent again and laid aside, from outside."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from seckill.cli import app
from tests.webhook_kit import Books, Received, Receiver, accept, endpoint_of, open_books, receiving


class Desk:
    """Books, a receiver that refuses everything, and an operator before them."""

    def __init__(self, books: Books, receiver: Receiver, dsn: str) -> None:
        self.books = books
        self.receiver = receiver
        self.endpoint = endpoint_of(receiver.url)
        self._dsn = dsn

    async def command(self, *arguments: str, fails: bool = False) -> str:
        """Run `seckill webhook`; returns what it printed."""
        # In a thread: a command runs an event loop of its own.
        done = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["webhook", *arguments],
            env={"SECKILL_POSTGRES_DSN": self._dsn, "COLUMNS": "250", "NO_COLOR": "1"},
        )
        assert bool(done.exit_code) is fails, done.output
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.output

    async def kill(self, count: int) -> list[int]:
        """So many dead letters; their ids."""
        await self.books.name(self.endpoint)
        await self.books.reserve(count)

        async def refuse(_: Received) -> int:
            return 500

        self.receiver.answer = refuse
        async with self.books.delivering(self.endpoint, order_webhook_attempts_max=1):
            rows = await self.books.dead(count)
        return [row["id"] for row in rows]


@pytest.fixture
async def desk(database_dsn: str) -> AsyncIterator[Desk]:
    """A desk of the test's own."""
    async with open_books(database_dsn) as books, receiving() as receiver:
        yield Desk(books, receiver, database_dsn)


async def test_dead_letters_are_listed_shown_redriven_and_dropped(desk: Desk) -> None:
    """A redriven one is delivered under the same id; a dropped one stays on record a while."""
    redriven, dropped, left = await desk.kill(3)
    listed = await desk.command("list")
    assert "3 deliveries" in listed
    assert "answered 500" in listed
    first = desk.receiver.requests[0].event
    shown = await desk.command("show", str(redriven))
    assert "answered 500" in shown
    assert '"specversion": "1.0"' in shown
    assert desk.endpoint.secret.get_secret_value() not in shown
    assert "1 dead letters settled" in await desk.command("redrive", str(redriven))
    await desk.command("drop", str(dropped), "--note", "told by hand")
    assert "1 deliveries" in await desk.command("list")
    assert "told by hand" in await desk.command("show", str(dropped))
    assert "dropped" in await desk.command("list", "--all", "--endpoint", "shop")
    told = len(desk.receiver.requests)
    desk.receiver.answer = accept
    async with desk.books.delivering(desk.endpoint):
        (again,) = (await desk.receiver.got(told + 1))[told:]
        await desk.command("redrive", "--endpoint", "shop")
        await desk.receiver.got(told + 2)
    assert again.id in {received.id for received in desk.receiver.requests[:told]}
    assert set(again.event) == set(first)
    assert left not in [row["id"] for row in await desk.books.rows()]


async def test_what_cannot_be_settled_is_refused(desk: Desk) -> None:
    """Delivered or dropped before, waiting, never there, or of nobody."""
    dead, dropped = await desk.kill(2)
    await desk.command("drop", str(dropped), "--note", "x")
    await desk.books.reserve()
    waiting = (await desk.books.rows())[-1]["id"]
    refused = await desk.command("redrive", str(dropped), str(waiting), fails=True)
    assert f"delivery {dropped}: it is dropped" in refused
    assert f"delivery {waiting}: it is waiting" in refused
    assert "there is no delivery 999" in await desk.command("show", "999", fails=True)
    assert "name dead letters" in await desk.command("redrive", fails=True)
    await desk.books.sql.execute("UPDATE webhook_endpoints SET gone_at = now()")
    assert "resume it first" in await desk.command("redrive", str(dead), fails=True)
    assert "gone since" in await desk.command("endpoints")
    await desk.command("resume", "shop")
    assert "not gone" in await desk.command("resume", "shop", fails=True)
    assert "told" in await desk.command("endpoints")
    await desk.command("redrive", str(dead))
    (row,) = [row for row in await desk.books.rows() if row["id"] == dead]
    assert (row["dead_at"], row["attempts"]) == (None, 0)
    # Its age counts anew, else it would be given up as too old.
    assert row["queued_at"] > row["at"]
    await desk.books.sql.execute(
        "UPDATE webhook_deliveries SET dead_at = now() WHERE id = $1", dead
    )
    await desk.books.sql.execute("DELETE FROM webhook_endpoints")
    assert "in nobody's settings" in await desk.command("redrive", str(dead), fails=True)


async def test_database_without_webhooks_is_told(desk: Desk, database_dsn: str) -> None:
    """In one line, whether it is away or not migrated."""
    away = "postgresql://nobody@127.0.0.1:1/none"
    assert "error: " in await desk.command("list", "--dsn", away, fails=True)
    other = database_dsn.rpartition("/")[0] + "/postgres"
    assert "not migrated" in await desk.command("list", "--dsn", other, fails=True)
