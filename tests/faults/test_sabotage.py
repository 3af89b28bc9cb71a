"""Planted bugs fit the code, stages run with them, and the checker sees one at work."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from deploy.local import Stores, create_topics
from tests.conftest import Topics
from tests.factories import new_id, sale_terms
from tests.faults.buyers import Buyers, InventoryDoor
from tests.faults.line import Line, events_topic
from tests.faults.proof import README, TESTS, read_rows
from tests.faults.reading import open_reader
from tests.faults.sabotage.edits import ROOT, Edit, Sabotage, SabotageStale
from tests.faults.sabotage.registry import SABOTAGES
from tests.waiting import eventually

STATEMENTS = ROOT / "order_svc" / "sql"


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_bug_fits_the_code(name: str) -> None:
    """The text that it changes is there, once, and what it makes of Python compiles."""
    changed = SABOTAGES[name].files()
    for path, text in changed.items():
        assert text != path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            compile(text, path, "exec")


def test_a_bug_that_fits_no_more_is_an_error() -> None:
    """Neither a text that is gone nor one that is there twice is passed over."""
    for old in ("this is not there", "return"):
        stale = Sabotage(name="stale", says="", edits=(Edit("seckill/delay.py", old, ""),))
        with pytest.raises(SabotageStale, match="instead of once"):
            stale.files()


async def test_changed_scripts_and_statements_are_still_legal(
    redis_url: str, database_dsn: str
) -> None:
    """A bug that does not even load would be caught by anybody."""
    changed = [item for bug in SABOTAGES.values() for item in bug.files().items()]
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        for text in (text for path, text in changed if path.suffix == ".lua"):
            await client.script_load(text)
    connection = await asyncpg.connect(database_dsn)
    try:
        for text in (text for path, text in changed if path.parent == STATEMENTS):
            await connection.prepare(text)
    finally:
        await connection.close()


async def test_the_checker_sees_a_planted_bug_at_work(own_stores: Stores, tmp_path: Path) -> None:
    """A stage that forgets who bought sells to one buyer twice: C, and the database rejects it."""
    tag = new_id("bug")
    topics = Topics(orders=f"orders-{tag}", dead_letters=f"dead-letters-{tag}")
    await create_topics(
        own_stores.kafka_bootstrap,
        {topics.orders: 1, topics.dead_letters: 1, events_topic(tag): 1},
    )
    async with open_reader(own_stores, topics=topics, group=tag) as reader:
        line = Line(
            own_stores,
            topics=topics,
            group=tag,
            directory=tmp_path,
            reader=reader,
            bug="dedupe-forgotten",
        )
        try:
            await line.start("order", "inventory")
            sku = await line.open_sale(sale_terms(units=10))
            async with line.channel("inventory") as channel:
                buyers = Buyers(InventoryDoor([channel]), sku)
                buyers.history.done.rejecting = False
                user = new_id("buyer")
                first, second = await asyncio.gather(buyers.insist(user), buyers.insist(user))
            assert first.order_no != second.order_no
            found = await eventually(
                lambda: reader.look(sku, buyers.history),
                lambda seen: any("promised and rejected" in text for text in seen),
            )
        finally:
            await asyncio.to_thread(line.stop)
    assert any(text.startswith("C: live order") for text in found)


def test_the_table_of_proofs_names_what_exists() -> None:
    """Each test of the README is in its file, and each bug is planted somewhere."""
    rows = list(read_rows(README.read_text(encoding="utf-8")))
    assert len(rows) > 30
    for row in rows:
        for node in row.tests:
            path, _, test = node.partition("::")
            assert f"def {test}(" in (TESTS / path).read_text(encoding="utf-8"), node
        assert not row.bug or row.bug in SABOTAGES, row.bug
    assert sum(bool(row.bug) for row in rows) > 25
