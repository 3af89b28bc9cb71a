"""The order database: what its statements do, and what its schema refuses whoever writes."""

import asyncio
import os
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from deploy.local import Stores
from order_svc.database import (
    SCHEMA_VERSION,
    Database,
    SchemaMissing,
    open_database,
    wait_for_schema,
)
from order_svc.intake import OrderIntake
from order_svc.migrate import migrations_config
from order_svc.model import encode_fresh, order_of
from order_svc.repository import OrderRepository, Payment
from order_svc.sales import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import (
    DependencyUnavailable,
    NotAllowed,
    OrderNotFound,
    OrderStateConflict,
    PaymentMismatch,
    PaymentTooLate,
    SaleExists,
)
from seckill.order_no import make_order_nos
from seckill.v1 import events_pb2, order_pb2, sale_pb2

PRICE = 1_999
ROOT = Path(__file__).parents[2]


def settings_for(dsn: str, **changes: float) -> OrderSettings:
    """Settings of a stage that has only a database."""
    facts = {"postgres_dsn": dsn, "redis_url": "redis://none", "kafka_bootstrap": "none:1"}
    return OrderSettings.model_validate(facts | changes)


class Store:
    """The database under test: the repositories, and a connection of the test's own."""

    def __init__(self, database: Database, connection: asyncpg.Connection) -> None:
        self.database = database
        self.intake = OrderIntake(database)
        self.orders = OrderRepository(database)
        self.sales = SaleRepository(database)
        self.sql = connection

    async def sale(self, *, total: int = 1_000, window_s: int = 900) -> str:
        """A registered sale."""
        sku = f"sku-{uuid.uuid4().hex}"
        await self.sales.register(terms(sku, total=total, window_s=window_s))
        return sku

    async def pending(self, sku: str, count: int) -> list[str]:
        """Numbers of this many new pending orders."""
        batch = await self.intake.write(reservations(sku, count))
        assert {status for _, status in batch.fresh} == {"pending"}
        return [event.order_no for event, _ in batch.fresh]

    async def expire(self, sku: str) -> None:
        """Move the sale's pending orders into the past, so that their time is over."""
        await self.sql.execute(
            "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
            " - interval '1 h' WHERE sku = $1 AND status = 'pending'",
            sku,
        )

    async def facts(self, sku: str) -> dict[str, int]:
        """Units sold, live and unrestored, and how many rows there are of everything."""
        row = await self.sql.fetchrow(
            """
            SELECT s.sold,
                   (SELECT coalesce(sum(quantity), 0) FROM orders WHERE sku = s.sku
                       AND status IN ('pending', 'paid')) AS live,
                   (SELECT count(*) FROM orders WHERE sku = s.sku) AS orders,
                   (SELECT count(*) FROM stock_ledger WHERE sku = s.sku) AS ledger,
                   (SELECT count(*) FROM restore_outbox WHERE sku = s.sku) AS outbox
            FROM sales s WHERE sku = $1
            """,
            sku,
        )
        return dict(row)


@pytest.fixture
async def store(database_dsn: str) -> AsyncIterator[Store]:
    """Repositories on a migrated database of the test's own."""
    connection = await asyncpg.connect(database_dsn)
    async with open_database(settings_for(database_dsn)) as database:
        yield Store(database, connection)
    await connection.close()


def terms(sku: str, *, total: int = 1_000, window_s: int = 900) -> sale_pb2.SaleTerms:
    """Terms of a sale that ends in an hour."""
    made = sale_pb2.SaleTerms(
        sku=sku,
        title="A kettle",
        total_units=total,
        unit_price=sale_pb2.Money(currency="EUR", minor_units=PRICE),
        purchase_limit=5,
    )
    made.end_time.FromSeconds(int(time.time()) + 3_600)
    made.payment_window.FromSeconds(window_s)
    return made


def reservations(
    sku: str, count: int, *, quantity: int = 1, users: Sequence[str] = ()
) -> list[events_pb2.OrderReserved]:
    """Reservations of new buyers, or of these."""
    buyers = users or [f"user-{uuid.uuid4().hex}" for _ in range(count)]
    order_nos = make_order_nos(buyers, now_s=time.time(), rng=random.Random())
    return [
        events_pb2.OrderReserved(
            order_no=number,
            sku=sku,
            user_id=user,
            request_id=uuid.uuid4().hex,
            quantity=quantity,
            epoch=1,
        )
        for number, user in zip(order_nos, buyers, strict=True)
    ]


def payment(order_no: str, **changes: object) -> Payment:
    """The right payment for one unit, but for the changes."""
    facts = {
        "order_no": order_no,
        "payment_id": f"pay-{uuid.uuid4().hex}",
        "amount_minor": PRICE,
        "currency": "EUR",
        "user_id": "",
    }
    return Payment(**(facts | changes))  # type: ignore[arg-type]


def test_required_schema_version_is_the_newest_revision() -> None:
    """The version that the stage waits for at start is the one that the migration makes."""
    assert ScriptDirectory.from_config(migrations_config()).get_current_head() == SCHEMA_VERSION


async def test_migration_by_two_replicas_at_once_is_done_once(stores: Stores) -> None:
    """Two processes migrate an empty database, both succeed, and a third changes nothing."""
    name = f"empty_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = f"{stores.postgres_dsn.rpartition('/')[0]}/{name}"

    async def replica() -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "order_svc.migrate"),
            env={**os.environ, "SECKILL_POSTGRES_DSN": dsn},
            cwd=ROOT,
        )
        return await process.wait()

    try:
        assert not any(await asyncio.gather(replica(), replica()))
        assert await replica() == 0
        connection = await asyncpg.connect(dsn)
        versions = await connection.fetch("SELECT version_num FROM alembic_version")
        assert {row[0] for row in versions} == {SCHEMA_VERSION}
        await connection.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_missing_schema_names_the_command(store: Store) -> None:
    """Without the migration the stage does not start, and says what to run."""
    await store.sql.execute("DROP TABLE alembic_version")
    with pytest.raises(SchemaMissing, match=r"python -m order_svc\.migrate"):
        await wait_for_schema(store.database, timeout_s=0.2)


async def test_redelivered_batch_changes_nothing(store: Store) -> None:
    """Rows, units sold and ledger are the same after the second time, and all rows are found."""
    sku = await store.sale()
    events = reservations(sku, 500)
    first = await store.intake.write(events)
    before = await store.facts(sku)
    second = await store.intake.write(events)
    assert len(first.fresh) == 500
    assert not second.fresh
    assert len(second.found) == 500
    # Timestamps come back from the database to the microsecond, as they were written.
    assert second.expire_times_s() == first.expire_times_s()
    assert await store.facts(sku) == before
    assert before == {"sold": 500, "live": 500, "orders": 500, "ledger": 501, "outbox": 0}


async def test_batch_half_redelivered_writes_the_other_half(store: Store) -> None:
    """What is new in a redelivered batch is written, even where the sale has just room for it."""
    sku = await store.sale(total=300)
    events = reservations(sku, 300)
    await store.intake.write(events[:200])
    batch = await store.intake.write(events)
    assert (len(batch.fresh), len(batch.found)) == (100, 200)
    assert {status for _, status in batch.fresh} == {"pending"}
    assert (await store.facts(sku))["sold"] == 300


async def test_projection_of_a_fresh_order_is_its_row(store: Store) -> None:
    """The bytes put together from the batch are the order that the database then has."""
    sku = await store.sale(total=2)
    batch = await store.intake.write(reservations(sku, 3))
    for number, status, encoded in encode_fresh(batch):
        row = await store.orders.get(number)
        assert row["status"] == status
        assert order_pb2.Order.FromString(encoded) == order_of(row)


async def test_same_batch_by_two_consumers_at_once_is_written_once(store: Store) -> None:
    """Of two concurrent transactions with the same rows exactly one writes each row."""
    sku = await store.sale()
    events = reservations(sku, 400)
    batches = await asyncio.gather(*(store.intake.write(events) for _ in range(4)))
    assert sum(len(batch.fresh) for batch in batches) == 400
    assert all(len(batch.fresh) + len(batch.found) == 400 for batch in batches)
    assert await store.facts(sku) == {
        "sold": 400,
        "live": 400,
        "orders": 400,
        "ledger": 401,
        "outbox": 0,
    }


async def test_overlapping_batches_of_many_sales_do_not_deadlock(store: Store) -> None:
    """Batches in any order over the same sales and rows, beside cancellations, all succeed."""
    skus = [await store.sale() for _ in range(4)]
    events = [event for sku in skus for event in reservations(sku, 50)]
    rng = random.Random(7)

    async def consume() -> None:
        mine = rng.sample(events, 150)
        await store.intake.write(mine)
        await store.orders.cancel_expired([event.order_no for event in mine])
        await store.orders.cancel(mine[0].order_no, user_id="")

    await asyncio.gather(*(consume() for _ in range(12)))
    await store.intake.write(events)
    for sku in skus:
        facts = await store.facts(sku)
        assert facts["orders"] == 50
        assert facts["sold"] == facts["live"]
    assert (
        await store.sql.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        == 0
    )


async def test_stock_beyond_the_total_is_rejected_in_order(store: Store) -> None:
    """As many as fit become orders, the later numbers are rejected with their units to restore."""
    sku = await store.sale(total=100)
    events = reservations(sku, 150)
    batch = await store.intake.write(events)
    statuses = [status for _, status in batch.fresh]
    assert statuses == ["pending"] * 100 + ["rejected"] * 50
    assert await store.facts(sku) == {
        "sold": 100,
        "live": 100,
        "orders": 150,
        "ledger": 151,
        "outbox": 50,
    }
    reasons = await store.sql.fetch(
        "SELECT DISTINCT cancel_reason FROM orders WHERE sku = $1 AND status = 'rejected'", sku
    )
    assert [row[0] for row in reasons] == ["no_stock"]
    await store.intake.write(events)
    assert (await store.facts(sku))["outbox"] == 50


async def test_racing_batches_never_pass_the_total(store: Store) -> None:
    """Ten batches of thirty at once on a hundred units make a hundred live units."""
    sku = await store.sale(total=100)
    await asyncio.gather(*(store.intake.write(reservations(sku, 30)) for _ in range(10)))
    facts = await store.facts(sku)
    assert (facts["sold"], facts["live"], facts["outbox"]) == (100, 100, 200)


async def test_second_order_of_a_buyer_is_rejected_once(store: Store) -> None:
    """The same buyer and sku under another number: one live order, one restore row."""
    sku = await store.sale()
    users = [f"user-{uuid.uuid4().hex}"] * 3
    same_batch = reservations(sku, 3, users=users)
    later = reservations(sku, 1, users=users[:1])
    for _ in range(2):
        await store.intake.write(same_batch)
        await store.intake.write(later)
    facts = await store.facts(sku)
    assert facts == {"sold": 1, "live": 1, "orders": 4, "ledger": 5, "outbox": 3}
    first = await store.orders.get(same_batch[0].order_no)
    assert first["status"] == "pending"


async def test_cancelled_buyer_may_have_a_new_order(store: Store) -> None:
    """A cancelled order does not stand in the way of the next."""
    sku = await store.sale(total=1)
    event = reservations(sku, 1)[0]
    await store.intake.write([event])
    await store.orders.cancel(event.order_no, user_id=event.user_id)
    batch = await store.intake.write(reservations(sku, 1, users=[event.user_id]))
    assert [status for _, status in batch.fresh] == ["pending"]


async def test_reservation_of_an_unknown_sku_is_told_apart(store: Store) -> None:
    """The others of its batch are written."""
    sku = await store.sale()
    stray = reservations("never-registered", 1)
    batch = await store.intake.write([*reservations(sku, 9), *stray])
    assert len(batch.fresh) == 9
    assert list(batch.unknown) == stray


async def test_payment_against_expiry_has_one_winner_each(store: Store) -> None:
    """Each of 1,200 orders paid and expired at the same moment ends in exactly one of the two."""
    sku = await store.sale(total=1_200, window_s=1)
    order_nos = await store.pending(sku, 1_200)
    # Half of the orders' time ends while both sides are at it.
    await store.sql.execute(
        "UPDATE orders SET created_at = created_at - interval '1 h',"
        " expires_at = clock_timestamp() + random() * interval '1 s' WHERE sku = $1",
        sku,
    )
    rng = random.Random(11)

    async def pay(number: str) -> bool:
        try:
            return (await store.orders.pay(payment(number))).changed
        except PaymentTooLate:
            return False

    async def expire() -> set[str]:
        cancelled: set[str] = set()
        while len(cancelled) + await store.sql.fetchval(
            "SELECT count(*) FROM orders WHERE sku = $1 AND status = 'paid'", sku
        ) < len(order_nos):
            sample = rng.sample(order_nos, 600)
            changes = await store.orders.cancel_expired(sorted(sample))
            cancelled |= {change.order["order_no"] for change in changes if change.changed}
        return cancelled

    expiring = asyncio.create_task(expire())
    paid = await asyncio.gather(*map(pay, order_nos))
    async with asyncio.timeout(30):
        cancelled = await expiring
    winners = {number for number, won in zip(order_nos, paid, strict=True) if won}
    assert not winners & cancelled
    assert winners | cancelled == set(order_nos)
    facts = await store.facts(sku)
    assert facts["sold"] == facts["live"] == len(winners)
    assert facts["outbox"] == len(cancelled)
    late = await store.sql.fetchval("SELECT count(*) FROM late_payments")
    assert late == len(cancelled)


async def test_payment_repeated_by_its_id_is_one_transition(store: Store) -> None:
    """Five notices of one payment at once change the order once and all answer the paid order."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    notice = payment(number)
    changes = await asyncio.gather(*(store.orders.pay(notice) for _ in range(5)))
    assert sum(change.changed for change in changes) == 1
    assert {change.order["status"] for change in changes} == {"paid"}
    with pytest.raises(OrderStateConflict):
        await store.orders.pay(payment(number))


async def test_payment_that_is_not_this_orders_is_refused(store: Store) -> None:
    """Another amount, currency or buyer, and a payment that has paid another order."""
    sku = await store.sale()
    first, second = await store.pending(sku, 2)
    for wrong in ({"amount_minor": PRICE - 1}, {"currency": "USD"}):
        with pytest.raises(PaymentMismatch):
            await store.orders.pay(payment(first, **wrong))
    with pytest.raises(NotAllowed):
        await store.orders.pay(payment(first, user_id="somebody-else"))
    paid = payment(first)
    await store.orders.pay(paid)
    with pytest.raises(OrderStateConflict, match="another order"):
        await store.orders.pay(payment(second, payment_id=paid.payment_id))
    assert (await store.orders.get(second))["status"] == "pending"


async def test_late_payment_is_on_record_once(store: Store) -> None:
    """An expired order cannot be paid before or after its cancellation; the notice is kept once."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    await store.expire(sku)
    notice = payment(number)
    with pytest.raises(PaymentTooLate):
        await store.orders.pay(notice)
    await store.orders.cancel_expired([number])
    with pytest.raises(PaymentTooLate):
        await store.orders.pay(notice)
    rows = await store.sql.fetch("SELECT payment_id, order_no, amount_minor FROM late_payments")
    assert [tuple(row) for row in rows] == [(notice.payment_id, number, PRICE)]


async def test_cancelling_twice_restores_once(store: Store) -> None:
    """The second call answers the cancelled order; a paid order cannot be cancelled."""
    sku = await store.sale()
    number, paid = await store.pending(sku, 2)
    await store.orders.pay(payment(paid))
    changes = [await store.orders.cancel(number, user_id="") for _ in range(2)]
    assert [change.changed for change in changes] == [True, False]
    with pytest.raises(OrderStateConflict):
        await store.orders.cancel(paid, user_id="")
    with pytest.raises(NotAllowed):
        await store.orders.cancel(number, user_id="somebody-else")
    assert await store.facts(sku) == {"sold": 1, "live": 1, "orders": 2, "ledger": 5, "outbox": 1}


async def test_expiry_spares_what_is_paid_or_in_time(store: Store) -> None:
    """Only pending orders whose time is over are cancelled."""
    sku = await store.sale()
    paid, expired = await store.pending(sku, 2)
    await store.orders.pay(payment(paid))
    await store.expire(sku)
    (in_time,) = await store.pending(sku, 1)
    assert await store.orders.expired(10) == [expired]
    changes = await store.orders.cancel_expired([paid, expired, in_time])
    states = {change.order["order_no"]: change.order["status"] for change in changes}
    assert states == {paid: "paid", expired: "cancelled", in_time: "pending"}
    assert [row["order_no"] for row in await store.orders.unrestored(10)] == [expired]


@pytest.mark.parametrize("restock", [True, False])
async def test_refund_is_one_transition(store: Store, restock: bool) -> None:
    """Five notices of one refund at once: one change, one event, units back only where told to."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    await store.orders.pay(payment(number))
    changes = await asyncio.gather(
        *(store.orders.refund(number, refund_id="r-1", restock=restock) for _ in range(5))
    )
    assert sum(change.changed for change in changes) == 1
    assert {change.order["status"] for change in changes} == {"refunded"}
    facts = await store.facts(sku)
    assert (facts["sold"], facts["outbox"]) == ((0, 1) if restock else (1, 0))
    assert facts["ledger"] == 4
    totals = await store.sales.totals(sku)
    assert totals["written_off_units"] == (0 if restock else 1)
    kinds = await store.sql.fetch("SELECT kind FROM order_events ORDER BY id")
    assert [row["kind"] for row in kinds] == ["created", "paid", "refunded"]


async def test_refund_that_does_not_fit_is_refused(store: Store) -> None:
    """Unpaid, refunded otherwise, restocked otherwise, or the refund of another order."""
    sku = await store.sale()
    pending, paid, other = await store.pending(sku, 3)
    for number in (paid, other):
        await store.orders.pay(payment(number))
    with pytest.raises(OrderStateConflict, match="pending"):
        await store.orders.refund(pending, refund_id="r-1", restock=True)
    with pytest.raises(OrderNotFound):
        await store.orders.refund("0" * 26, refund_id="r-1", restock=True)
    await store.orders.refund(paid, refund_id="r-1", restock=True)
    with pytest.raises(OrderStateConflict, match="another refund"):
        await store.orders.refund(paid, refund_id="r-2", restock=True)
    with pytest.raises(OrderStateConflict, match="restocked"):
        await store.orders.refund(paid, refund_id="r-1", restock=False)
    with pytest.raises(OrderStateConflict, match="another order"):
        await store.orders.refund(other, refund_id="r-1", restock=True)
    assert (await store.facts(sku))["sold"] == 2


async def test_each_transition_writes_its_event_once(store: Store) -> None:
    """Created, rejected, paid, cancelled and paid too late; repeating writes none."""
    sku = await store.sale(total=2)
    events = reservations(sku, 3)
    paid, cancelled, rejected = sorted(event.order_no for event in events)
    notice, late = payment(paid), payment(cancelled)
    for _ in range(2):
        await store.intake.write(events)
        await store.orders.pay(notice)
        await store.orders.cancel(cancelled, user_id="")
        with pytest.raises(PaymentTooLate):
            await store.orders.pay(late)
    rows = await store.sql.fetch("SELECT order_no, kind, payment_id FROM order_events ORDER BY id")
    assert {tuple(row) for row in rows[:3]} == {
        (paid, "created", None),
        (cancelled, "created", None),
        (rejected, "rejected", None),
    }
    assert [tuple(row) for row in rows[3:]] == [
        (paid, "paid", None),
        (cancelled, "cancelled", None),
        (cancelled, "payment_too_late", late.payment_id),
    ]


async def test_restored_units_are_marked_once(store: Store) -> None:
    """Marking twice, also at the same time, notes and records each order once."""
    sku = await store.sale(total=1)
    await store.intake.write(reservations(sku, 20))
    waiting = [row["order_no"] for row in await store.orders.unrestored(100)]
    marked = await asyncio.gather(*(store.orders.mark_restored(waiting) for _ in range(3)))
    assert sorted(number for numbers in marked for number in numbers) == sorted(waiting)
    assert await store.orders.unrestored(100) == []
    assert (await store.facts(sku))["ledger"] == 1 + 20 + 19
    assert (await store.sales.totals(sku))["restored_units"] == 19


async def test_registering_again_needs_the_same_terms(store: Store) -> None:
    """The same terms answer the same sale, others are refused, and the ledger has one load."""
    sku = f"sku-{uuid.uuid4().hex}"
    wanted = terms(sku)
    results = await asyncio.gather(*(store.sales.register(wanted) for _ in range(4)))
    assert sum(created for _, created in results) == 1
    with pytest.raises(SaleExists):
        await store.sales.register(terms(sku, total=1_001))
    assert (await store.facts(sku))["ledger"] == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stock_ledger SET quantity = 2",
        "DELETE FROM stock_ledger",
        "TRUNCATE stock_ledger",
    ],
)
async def test_ledger_refuses_changes(store: Store, statement: str) -> None:
    """Nobody rewrites history, not even its owner."""
    await store.sale()
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await store.sql.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sales SET sold = total + 1",
        "UPDATE sales SET sold = -1",
        "UPDATE orders SET status = 'paid'",
        "UPDATE orders SET paid_at = now()",
        "UPDATE orders SET status = 'cancelled'",
        "UPDATE orders SET status = 'lost'",
        "UPDATE orders SET status = 'paid', payment_id = 'p', paid_at = expires_at",
        "UPDATE orders SET status = 'cancelled', cancelled_at = now(), cancel_reason = 'no_stock'",
        "UPDATE orders SET expires_at = created_at",
        "UPDATE orders SET quantity = 0",
        "INSERT INTO stock_ledger (sku, kind, quantity) VALUES ('s', 'reserved', 1)",
    ],
)
async def test_schema_refuses_what_breaks_a_rule(store: Store, statement: str) -> None:
    """Overselling and impossible orders are refused even when written by hand."""
    sku = await store.sale()
    await store.pending(sku, 1)
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql.execute(statement)


async def test_second_live_order_of_a_buyer_is_refused_by_the_schema(store: Store) -> None:
    """The unique index holds without the statements' care."""
    sku = await store.sale()
    await store.pending(sku, 2)
    with pytest.raises(asyncpg.UniqueViolationError, match="orders_one_live_per_buyer"):
        await store.sql.execute("UPDATE orders SET user_id = 'one' WHERE sku = $1", sku)


async def test_locked_table_is_a_fault_within_the_timeout(database_dsn: str, store: Store) -> None:
    """A statement that waits for too long is told as unavailable, and leaves nothing behind."""
    sku = await store.sale()
    settings = settings_for(database_dsn, postgres_timeout_s=0.2)
    async with open_database(settings) as database, store.sql.transaction():
        await store.sql.execute("LOCK TABLE orders")
        with pytest.raises(DependencyUnavailable):
            await OrderIntake(database).write(reservations(sku, 3))
    assert (await store.facts(sku))["sold"] == 0
