"""Units come back exactly once although rollback_svc dies between its steps or Postgres is away."""

import asyncio
import signal
from dataclasses import replace

from devstack import PostgresServer, Stores
from seckill.client import Outcome
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.history import is_reserved
from tests.kits.faults.reading import StoreReader
from tests.kits.waiting import eventually

RESERVED = Outcome.RESERVED
WINDOW_S = 1.0


async def states(reader: StoreReader, sku: str) -> set[str]:
    """Return the states that the sale's orders are in."""
    return {row.status for row in (await reader.facts(sku)).orders}


async def expired(reader: StoreReader, sku: str) -> int:
    """Return how many orders have expired, by the database's clock."""
    return int(
        await reader.sql.fetchval(
            "SELECT count(*) FROM orders WHERE sku = $1 AND expires_at <= now()", sku
        )
    )


async def test_a_rollback_killed_after_each_of_its_steps_restores_once(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Rollback dies after the cancel, the release and the note; each unit comes back once."""
    await cluster.start("order", "inventory")
    sku = await cluster.open_sale(sale_terms(units=20, payment_window_s=WINDOW_S))
    buyers = make_buyers(cluster, sku)
    await buyers.arrive(15)
    await eventually(lambda: expired(cluster.reader, sku), lambda count: count == 15)
    seen = []
    for step in ("after_cancel", "after_release", "after_mark"):
        await cluster.launch("rollback", failpoints=f"rollback.{step}:1:kill")
        assert await cluster.wait_exit("rollback") == -signal.SIGKILL
        facts = await cluster.reader.facts(sku)
        restored = sum(row.restored for row in facts.orders)
        seen.append((facts.sold, facts.remaining, restored))
    # (live, on sale, noted as restored): each death came at its step.
    assert seen == [(0, 5, 0), (0, 20, 0), (0, 20, 15)]
    await cluster.start("rollback")
    assert not await cluster.reader.violations(sku, buyers.history)
    assert (await cluster.reader.facts(sku)).remaining == 20


async def test_units_restocked_before_waiting_buyers_are_sold_once_each(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Units of expired orders are sold once each to buyers who keep trying."""
    await cluster.start("order", "inventory", "rollback")
    sku = await cluster.open_sale(sale_terms(units=200, payment_window_s=2))
    first = make_buyers(cluster, sku)
    await first.arrive(200)
    assert (await cluster.reader.facts(sku)).remaining == 0
    waiting = [new_id("buyer") for _ in range(600)]

    async def press_until_restocked() -> int:
        attempts = await asyncio.gather(*(first.attempt(user, timeout_s=5) for user in waiting))
        return sum(map(is_reserved, attempts))

    await eventually(press_until_restocked)
    for _ in range(3):
        await press_until_restocked()
    # What the second crowd has bought expires in turn, and everything is on sale again.
    assert not await cluster.reader.violations(sku, first.history)
    resold = {attempt.user_id for attempt in first.history.attempts if is_reserved(attempt)}
    assert len(resold & set(waiting)) >= 200


async def test_while_postgres_is_away_nothing_is_restored(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_postgres: PostgresServer,
) -> None:
    """No unit is released while Postgres cannot say whether its order was paid."""
    stores = replace(own_stores, postgres_dsn=own_postgres.url)
    async with make_cluster(stores) as cluster:
        await cluster.start("order", "inventory", postgres_timeout_s="1")
        sku = await cluster.open_sale(sale_terms(units=10, payment_window_s=WINDOW_S))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(6)
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_postgres.kill)
        try:
            await cluster.start("rollback")
            await eventually(
                lambda: cluster.metric("rollback", "seckill_delay_due_orders"), lambda due: due == 6
            )
            before = await cluster.metric("rollback", "seckill_rollback_failures_total")
            await eventually(
                lambda: cluster.metric("rollback", "seckill_rollback_failures_total"),
                lambda failures: failures >= before + 6,
            )
            assert await cluster.reader.redis.get(f"seckill:stock:{{{sku}}}") == b"4"
        finally:
            await asyncio.to_thread(own_postgres.start)
        assert not await cluster.reader.violations(sku, buyers.history)
        await eventually(lambda: states(cluster.reader, sku), lambda found: found == {"cancelled"})
        assert not await cluster.reader.violations(sku, buyers.history)
        assert (await cluster.reader.facts(sku)).remaining == 10
