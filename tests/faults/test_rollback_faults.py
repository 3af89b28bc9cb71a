"""rollback_svc dies between its steps, or Postgres is away: units come back once, or not at all."""

import asyncio
import signal
from dataclasses import replace

from deploy.local import PostgresServer, Stores
from seckill.v1 import inventory_pb2
from tests.factories import new_id, sale_terms
from tests.faults.conftest import MakeBuyers, MakeLine
from tests.faults.line import Line
from tests.faults.reading import StoreReader
from tests.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
WINDOW_S = 1.0


async def states(reader: StoreReader, sku: str) -> set[str]:
    """The states that the sale's orders are in."""
    return {row.status for row in (await reader.facts(sku)).orders}


async def expired(reader: StoreReader, sku: str) -> int:
    """How many orders nobody can pay any more, by the database's clock."""
    return int(
        await reader.sql.fetchval(
            "SELECT count(*) FROM orders WHERE sku = $1 AND expires_at <= now()", sku
        )
    )


async def test_a_rollback_killed_after_each_of_its_steps_restores_once(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """After the cancel, after the release, after the note: three deaths, and each unit once."""
    await line.start("order", "inventory")
    sku = await line.open_sale(sale_terms(units=20, payment_window_s=WINDOW_S))
    buyers = make_buyers(line, sku)
    await buyers.arrive(15)
    await eventually(lambda: expired(line.reader, sku), lambda count: count == 15)
    seen = []
    for step in ("after_cancel", "after_release", "after_mark"):
        await line.begin("rollback", failpoints=f"rollback.{step}:1:kill")
        assert await line.died("rollback") == -signal.SIGKILL
        facts = await line.reader.facts(sku)
        restored = sum(row.restored for row in facts.orders)
        seen.append((facts.sold, facts.remaining, restored))
    # (live, on sale, noted): each death came where it was meant to come.
    assert seen == [(0, 5, 0), (0, 20, 0), (0, 20, 15)]
    await line.start("rollback")
    assert not await line.reader.violations(sku, buyers.history)
    assert (await line.reader.facts(sku)).remaining == 20


async def test_units_restocked_before_waiting_buyers_are_sold_once_each(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """All units expire while a crowd keeps pressing: as many are sold again, to others."""
    await line.start("order", "inventory", "rollback")
    sku = await line.open_sale(sale_terms(units=200, payment_window_s=2))
    first = make_buyers(line, sku)
    await first.arrive(200)
    assert (await line.reader.facts(sku)).remaining == 0
    waiting = [new_id("buyer") for _ in range(600)]

    async def press_until_restocked() -> int:
        attempts = await asyncio.gather(*(first.press(user, timeout_s=5) for user in waiting))
        return sum(attempt.outcome == RESERVED for attempt in attempts)

    await eventually(press_until_restocked)
    for _ in range(3):
        await press_until_restocked()
    # What the second crowd has bought expires in turn, and everything is on sale again.
    assert not await line.reader.violations(sku, first.history)
    resold = {attempt.user_id for attempt in first.history.attempts if attempt.reserved}
    assert len(resold & set(waiting)) >= 200


async def test_while_postgres_is_away_nothing_is_restored(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_postgres: PostgresServer
) -> None:
    """Orders are due and nobody can say whether they were paid: Redis stays as it is."""
    stores = replace(own_stores, postgres_dsn=own_postgres.url)
    async with make_line(stores) as line:
        await line.start("order", "inventory", postgres_timeout_s="1")
        sku = await line.open_sale(sale_terms(units=10, payment_window_s=WINDOW_S))
        buyers = make_buyers(line, sku)
        await buyers.arrive(6)
        assert not await line.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_postgres.kill)
        try:
            await line.start("rollback")
            await eventually(
                lambda: line.metric("rollback", "seckill_delay_due_orders"), lambda due: due == 6
            )
            before = await line.metric("rollback", "seckill_rollback_failures_total")
            await eventually(
                lambda: line.metric("rollback", "seckill_rollback_failures_total"),
                lambda failures: failures >= before + 6,
            )
            assert await line.reader.redis.get(f"seckill:stock:{{{sku}}}") == b"4"
        finally:
            await asyncio.to_thread(own_postgres.start)
        assert not await line.reader.violations(sku, buyers.history)
        await eventually(lambda: states(line.reader, sku), lambda found: found == {"cancelled"})
        assert not await line.reader.violations(sku, buyers.history)
        assert (await line.reader.facts(sku)).remaining == 10
