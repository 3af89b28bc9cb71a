"""Planted bugs fit the code, services run with them, and the checker sees one at work."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from campaigns.proof import README, TESTS, read_rows
from campaigns.sabotage.edits import Edit, Sabotage, SabotageStale
from campaigns.sabotage.registry import SABOTAGES
from devstack import Stores, create_topics
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.buyers import at_inventory
from tests.kits.faults.cluster import Cluster, events_topic
from tests.kits.faults.reading import open_reader
from tests.kits.stores import Topics, client_of
from tests.kits.waiting import eventually


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_bug_fits_the_code(name: str) -> None:
    """Each edit finds its text once, and Python still compiles with it."""
    changed = SABOTAGES[name].files()
    for path, text in changed.items():
        assert text != path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            compile(text, path, "exec")


def test_a_bug_that_fits_no_more_is_an_error() -> None:
    """An edit whose text is gone, or is there twice, raises SabotageStale."""
    for old in ("this is not there", "return"):
        stale = Sabotage(name="stale", says="", edits=(Edit("seckill/runtime/delay.py", old, ""),))
        with pytest.raises(SabotageStale, match="instead of once"):
            stale.files()


async def test_changed_scripts_and_statements_are_still_legal(
    redis_url: str, database_dsn: str
) -> None:
    """Redis loads the changed scripts, and Postgres prepares the changed statements."""
    changed = [item for bug in SABOTAGES.values() for item in bug.files().items()]
    statements = [text for path, text in changed if path.match("sql/*.sql")]
    assert len(statements) > 4
    async with client_of(redis_url) as client:
        for text in (text for path, text in changed if path.suffix == ".lua"):
            await client.script_load(text)
    connection = await asyncpg.connect(database_dsn)
    try:
        for text in statements:
            await connection.prepare(text)
    finally:
        await connection.close()


async def test_the_checker_sees_a_planted_bug_at_work(own_stores: Stores, tmp_path: Path) -> None:
    """The checker tells that a buyer was promised two orders and one was rejected."""
    tag = new_id("bug")
    topics = Topics(orders=f"orders-{tag}", dead_letters=f"dead-letters-{tag}")
    await create_topics(
        own_stores.kafka_bootstrap,
        {topics.orders: 1, topics.dead_letters: 1, events_topic(tag): 1},
    )
    async with open_reader(own_stores, topics=topics, group=tag) as reader:
        cluster = Cluster(
            own_stores,
            topics=topics,
            group=tag,
            directory=tmp_path,
            reader=reader,
            bug="dedupe-forgotten",
        )
        try:
            await cluster.start("order", "inventory")
            sku = await cluster.open_sale(sale_terms(units=10))
            async with cluster.channel("inventory") as channel:
                buyers = at_inventory([channel], sku)
                buyers.history.tampering.rejecting = False
                user = new_id("buyer")
                first, second = await asyncio.gather(buyers.buy(user), buyers.buy(user))
            assert first.order_no != second.order_no
            found = await eventually(
                lambda: reader.look(sku, buyers.history),
                lambda seen: any("promised and rejected" in text for text in seen),
            )
        finally:
            await asyncio.to_thread(cluster.stop)
    assert any(text.startswith("C: live order") for text in found)


def test_the_table_of_proofs_names_what_exists() -> None:
    """Each test in the README's table is in its file, and each bug exists."""
    rows = list(read_rows(README.read_text(encoding="utf-8")))
    assert len(rows) > 30
    for row in rows:
        for node in row.tests:
            path, _, test = node.partition("::")
            assert f"def {test}(" in (TESTS / path).read_text(encoding="utf-8"), node
        assert not row.bug or row.bug in SABOTAGES, row.bug
    assert sum(bool(row.bug) for row in rows) > 25
