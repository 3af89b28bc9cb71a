"""The database becomes a replica behind its address, or is migrated under warm connections."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from devstack import Stores
from order_svc.audit.audit import SaleAuditor
from order_svc.db.database import Connection, open_database
from order_svc.sales.recovery import SaleRecovery
from seckill.errors import DependencyUnavailable
from tests.kits.consumer import Bench, number_of, open_bench
from tests.kits.consumer import reservations as messages
from tests.kits.faults.proxy import FaultProxy
from tests.kits.order_store import Store, payment, reservations, settings_for
from tests.kits.stores import Topics

SESSIONS = 5
TIMEOUT_S = 2.0
# As the next release's migration may do while replicas of this one run.
MIGRATION = """
    ALTER TABLE orders ADD COLUMN gift boolean NOT NULL DEFAULT false;
    ALTER TABLE sales ADD COLUMN subtitle text;
    ALTER TABLE sale_records ADD COLUMN note text;
    CREATE OR REPLACE VIEW order_details AS
        SELECT o.order_no, o.sku, o.user_id, o.request_id, o.quantity, o.amount_minor, o.currency,
               o.status, o.created_at, o.expires_at, o.paid_at, o.cancelled_at, o.payment_id,
               r.restored_at, o.refunded_at, o.refund_id, o.cancel_reason,
               r.order_no IS NOT NULL AS returned, o.gift
        FROM orders o LEFT JOIN restore_outbox r USING (order_no);
"""


async def make_default(store: Store, value: str) -> None:
    """Set whether new sessions of the test's database are read-only: "on" or "off"."""
    name = await store.sql.fetchval("SELECT current_database()")
    await store.sql.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')


async def open_sessions(store: Store) -> None:
    """Open the pool's connections, each to the server that the address leads to now."""
    await asyncio.gather(*(store.database.fetch("db/schema_version") for _ in range(SESSIONS)))


async def test_sessions_that_became_read_only_are_replaced_and_no_write_fails(
    store: Store,
) -> None:
    """They stay read-only for as long as they live, but new ones can write."""
    sku = await store.sale()
    await make_default(store, "on")
    # None of the sessions from before is left.
    await store.sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(DependencyUnavailable):
        await store.pending(sku, 1)
    await open_sessions(store)
    await make_default(store, "off")
    results = await asyncio.gather(*(store.pending(sku, 1) for _ in range(2 * SESSIONS)))
    assert len({number for numbers in results for number in numbers}) == 2 * SESSIONS


async def test_a_database_that_is_read_only_is_not_ready(store: Store) -> None:
    """The check follows the address as soon as it leads to a server that takes writes."""
    await store.database.check_writable()
    await make_default(store, "on")
    await store.sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(3):
        with pytest.raises(DependencyUnavailable):
            await store.database.check_writable()
    await make_default(store, "off")
    await store.database.check_writable()


async def freeze_after(store: Store, proxy: FaultProxy, call: str) -> None:
    """Make one call after the sessions that are open have been frozen, some in a transaction."""

    async def statement(connection: Connection) -> None:
        await connection.execute("SELECT 1")

    async def frozen_midway(connection: Connection) -> None:
        proxy.freeze()
        await statement(connection)

    if call == "midway":
        await store.database.transact(frozen_midway)
        return
    proxy.freeze()
    if call == "transaction":
        await store.database.transact(statement)
    elif call == "reading":
        async with store.database.reading() as connection:
            await statement(connection)
    else:
        await store.database.fetch("db/schema_version")


@pytest.mark.parametrize("call", ["statement", "transaction", "midway", "reading"])
async def test_a_database_that_answers_no_more_costs_one_call_its_timeout(
    database_dsn: str, call: str
) -> None:
    """It is not asked to cancel the statement, and no other session of it is waited for."""
    host, _, port = database_dsn.rpartition("@")[2].partition("/")[0].partition(":")
    async with FaultProxy(host, int(port)).running() as proxy:
        dsn = database_dsn.replace(f":{port}/", f":{proxy.port}/")
        sql = await asyncpg.connect(database_dsn)
        async with open_database(settings_for(dsn, postgres_timeout_s=TIMEOUT_S)) as database:
            store = Store(database, sql)
            await open_sessions(store)
            started_s = time.monotonic()
            with pytest.raises(DependencyUnavailable):
                await freeze_after(store, proxy, call)
            assert time.monotonic() - started_s < 1.5 * TIMEOUT_S
            started_s = time.monotonic()
            await open_sessions(store)
            assert time.monotonic() - started_s < TIMEOUT_S
        await sql.close()


async def use(store: Store, sku: str) -> None:
    """Use transactions of each kind: write, pay, cancel, refund, read a snapshot, audit."""
    batch = reservations(sku, 4)
    await store.writer.write(batch)
    assert len((await store.writer.write(batch)).found) == 4
    paid, cancelled, refunded, _ = [event.order_no for event in batch]
    await store.payments.pay(payment(paid))
    await store.payments.pay(payment(refunded))
    await store.orders.cancel(cancelled, user_id="")
    await store.orders.refund(refunded, refund_id=f"refund-{refunded}", restock=True)
    assert len(await store.orders.find([paid, cancelled])) == 2
    async with SaleRecovery(store.database).snapshot(sku) as snapshot:
        assert [len(page) async for page in snapshot.pages]
    audit = await SaleAuditor(store.database, orders_max=1_000).audit(sku)
    assert audit.wrong is None


async def test_a_migration_under_warm_connections_fails_no_call(store: Store) -> None:
    """Statements whose results it changes are prepared again, and their transactions repeated."""
    sku = await store.sale()
    for _ in range(3):
        await use(store, sku)
    await store.sql.execute(MIGRATION)
    await use(store, sku)


@pytest.fixture
async def bench(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    async with open_bench(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as opened:
        yield opened


async def test_a_message_redelivered_to_a_warm_consumer_after_a_migration_ends_nothing(
    bench: Bench,
) -> None:
    """Its order is found again by a statement that was prepared before."""
    sku = await bench.sale()
    values = messages(sku, 20)
    consumer = bench.consumer()
    for _ in range(2):
        await bench.send(values)
        await bench.drain(consumer, 20)
    await bench.sql.execute(MIGRATION)
    await bench.send(values)
    result = await bench.drain(consumer, 20)
    assert (result.read, result.written, result.dead) == (20, 0, 0)
    assert await bench.counts(sku) == (20, 20, 20, 20)
    assert len({number_of(value) for value in values}) == 20
