"""Audits of real databases: a right history is proven, wrong ones are found and explained."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from devstack import Stores
from order_svc.audit.audit import audit_sale
from order_svc.audit.ledger import Rule
from order_svc.db.database import Database, open_database
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import OrderStateConflict, PaymentTooLate
from seckill.order_no import make_order_nos
from seckill.v1 import order_admin_pb2 as pb
from seckill.v1.events_pb2 import OrderReserved
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.operator import Desk, open_desk
from tests.kits.stores import Topics

UNITS = 60


class History:
    """A sale in a database, and ways to continue or to damage its history."""

    def __init__(self, dsn: str, sku: str, database: Database) -> None:
        self.dsn = dsn
        self.sku = sku
        self.writer = OrderWriter(database)
        self.orders = OrderRepository(database)
        self.payments = PaymentRepository(database)

    async def reserve(self, count: int) -> list[str]:
        """Write reservation events of new buyers; return their numbers, lowest first."""
        users = [new_id("buyer") for _ in range(count)]
        numbers = make_order_nos(users, now_s=time.time(), rng=random.Random())
        await self.writer.write(
            [
                OrderReserved(
                    order_no=number, sku=self.sku, user_id=user, request_id="r", quantity=1, epoch=1
                )
                for number, user in zip(numbers, users, strict=True)
            ]
        )
        return sorted(numbers)

    async def pay(self, number: str) -> None:
        """Pay, in time or too late."""
        payment = Payment(
            order_no=number,
            provider="psp",
            payment_id=new_id("payment"),
            amount_minor=PRICE.minor_units,
            currency=PRICE.currency,
        )
        with suppress(PaymentTooLate):
            await self.payments.pay(payment)

    async def end(self, number: str, *, rng: random.Random) -> None:
        """Cancel, or refund one way or the other; what the state does not allow is refused."""
        with suppress(OrderStateConflict):
            if rng.random() < 0.5:
                await self.orders.cancel(number, user_id="")
            else:
                restock = rng.random() < 0.5
                await self.orders.refund(number, refund_id=new_id("refund"), restock=restock)

    async def execute(self, statement: str, *arguments: object) -> None:
        """Do what the database's owner may do."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(statement, *arguments)
        await connection.close()


@pytest.fixture
async def history(database_dsn: str) -> AsyncIterator[History]:
    """A registered sale."""
    facts = {"postgres_dsn": database_dsn, "redis_url": "redis://none", "kafka_bootstrap": "n:1"}
    async with open_database(OrderSettings.model_validate(facts)) as database:
        terms = sale_terms(units=UNITS)
        await SaleRepository(database).register(terms)
        yield History(database_dsn, terms.sku, database)


async def test_history_of_everything_at_once_is_proven(history: History) -> None:
    """Racing batches beyond the stock, payments, ends and restores; audited while they run."""
    rng = random.Random(5)

    async def live() -> None:
        numbers = await history.reserve(20)
        await asyncio.gather(*(history.pay(number) for number in rng.sample(numbers, 12)))
        await asyncio.gather(*(history.end(number, rng=rng) for number in numbers))
        unrestored = await history.orders.unrestored(500)
        await history.orders.mark_restored([row["order_no"] for row in unrestored[::2]])

    async def watch() -> None:
        for _ in range(10):
            assert (await audit_sale(history.dsn, history.sku)).wrong is None

    await asyncio.gather(watch(), *(live() for _ in range(12)))
    found = await audit_sale(history.dsn, history.sku)
    assert found.wrong is None
    assert found.compared == 240
    assert 0 < found.replay.peak.units <= UNITS
    assert found.replay.rows["written_off"] > 0


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """An operator before a service on the same database."""
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
        order_audit_orders_max=UNITS + 10,
    ) as opened:
        yield opened


async def test_proof_is_shown_with_its_evidence(history: History, desk: Desk) -> None:
    """Sold out: the peak, the rows, the orders and the account of all units, exit status 0."""
    numbers = await history.reserve(UNITS + 10)
    await history.pay(numbers[0])
    status, shown = await desk.run("audit", "--sku", history.sku)
    assert status == 0, shown
    assert "PROVEN: never oversold" in shown
    assert f"{1 + UNITS + 10 + 1} rows replayed" in shown
    digest = (await audit_sale(history.dsn, history.sku)).replay.digest
    assert digest in shown
    assert re.search(rf"most were {UNITS} of {UNITS} at 2\S+ \S+ UTC, row \d+", shown)
    assert shown.count(" holds") == len(Rule)
    assert re.search(rf"in orders that await payment +{UNITS - 1}\b", shown)
    assert re.search(r"in paid orders +1\b", shown)
    assert re.search(rf"loaded +{UNITS}\b", shown)


LEDGER_ROW = "INSERT INTO stock_ledger (sku, order_no, kind, quantity) VALUES ($1, $2, $3, $4)"


@pytest.mark.parametrize(
    ("kind", "units", "rule"),
    [
        ("reserved", 1_000, Rule.NEVER_OVERSOLD),
        ("paid", 1, Rule.LEGAL_PATH),
        ("reserved", 1, Rule.ORDERS_AGREE),
    ],
)
async def test_planted_row_is_found(history: History, kind: str, units: int, rule: Rule) -> None:
    """A row of an order that never was, appended by hand."""
    await history.reserve(3)
    await history.execute(LEDGER_ROW, history.sku, "Z" * 26, kind, units)
    wrong = (await audit_sale(history.dsn, history.sku)).wrong
    assert wrong is not None
    assert wrong.rule is rule


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE sales SET sold = sold - 1 WHERE sku = $1", Rule.SALE_AGREES),
        ("UPDATE sales SET total = total + 1 WHERE sku = $1", Rule.SALE_AGREES),
        ("UPDATE orders SET quantity = 2 WHERE sku = $1", Rule.ORDERS_AGREE),
        (
            "UPDATE orders SET status='paid', paid_at=now(), payment_id=order_no WHERE sku=$1",
            Rule.ORDERS_AGREE,
        ),
        ("DELETE FROM orders WHERE sku = $1", Rule.ORDERS_AGREE),
    ],
)
async def test_change_behind_the_ledgers_back_is_found(
    history: History, statement: str, rule: Rule
) -> None:
    """Tables changed by hand no longer agree with the ledger."""
    await history.reserve(3)
    await history.execute(statement, history.sku)
    wrong = (await audit_sale(history.dsn, history.sku)).wrong
    assert wrong is not None
    assert wrong.rule is rule


async def test_ledger_rewritten_without_its_guard_is_found(history: History) -> None:
    """Switching the trigger off is told, and so is what was done meanwhile."""
    await history.reserve(3)
    await history.execute("ALTER TABLE stock_ledger DISABLE TRIGGER stock_ledger_append_only")
    wrong = (await audit_sale(history.dsn, history.sku)).wrong
    assert wrong is not None
    assert wrong.rule is Rule.APPEND_ONLY
    await history.execute("UPDATE stock_ledger SET quantity = 2 WHERE kind = 'loaded'")
    wrong = (await audit_sale(history.dsn, history.sku)).wrong
    assert wrong is not None
    assert wrong.rule is Rule.NEVER_OVERSOLD


async def test_disproof_shows_the_first_wrong_row(history: History, desk: Desk) -> None:
    """Exit status 1, the row, and why it is wrong."""
    await history.reserve(UNITS)
    await history.execute(LEDGER_ROW, history.sku, "Z" * 26, "reserved", 1)
    status, shown = await desk.run("audit", "--sku", history.sku)
    assert status == 1
    assert f"DISPROVEN: this makes {UNITS + 1} units out, and only {UNITS} were loaded." in shown
    assert "Z" * 26 in shown
    assert "BROKEN" in shown
    assert shown.count("held before row") == 3
    assert shown.count("not reached") == 4


async def test_what_cannot_be_audited_is_no_verdict(history: History, desk: Desk) -> None:
    """An unknown sku, an illegal one, a sale beyond the bound: exit status 2, one line each."""
    for sku, problem in (("never-registered", "NOT_FOUND"), ("no sku", "INVALID_ARGUMENT")):
        status, shown = await desk.run("audit", "--sku", sku)
        assert status == 2
        assert len(shown.splitlines()) == 1
        assert problem in shown
    await history.reserve(UNITS + 11)
    status, shown = await desk.run("audit", "--sku", history.sku)
    assert status == 2
    assert "SECKILL_ORDER_AUDIT_ORDERS_MAX" in shown


async def test_audit_keeps_the_service_answering(history: History, desk: Desk) -> None:
    """Audits at the same time take their turns and agree."""
    await history.reserve(UNITS)
    request = pb.AuditSaleRequest(sku=history.sku)
    answers = await asyncio.gather(
        *(desk.stub.AuditSale(request, metadata=desk.metadata) for _ in range(20))
    )
    assert all(answer.proven for answer in answers)
    assert len({answer.digest for answer in answers}) == 1
