"""`seckill audit` on real databases: a right history is proven, wrong ones are found and told."""

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from order_svc.audit import audit_sale
from order_svc.database import open_database
from order_svc.intake import OrderIntake
from order_svc.ledger import Rule
from order_svc.repository import OrderRepository, Payment
from order_svc.sales import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import OrderStateConflict, PaymentTooLate
from seckill.order_no import make_order_nos
from seckill.v1.events_pb2 import OrderReserved
from tests.factories import PRICE, new_id, sale_terms

ROOT = Path(__file__).parents[2]
UNITS = 60


class History:
    """A sale in a database, and the means to go on with it or to spoil it."""

    def __init__(self, dsn: str, sku: str, parts: tuple[OrderIntake, OrderRepository]) -> None:
        self.dsn = dsn
        self.sku = sku
        self.intake, self.orders = parts

    async def reserve(self, count: int) -> list[str]:
        """Reservations of new buyers, written; returns their numbers, lowest first."""
        users = [new_id("buyer") for _ in range(count)]
        numbers = make_order_nos(users, now_s=time.time(), rng=random.Random())
        await self.intake.write(
            [
                OrderReserved(
                    order_no=number, sku=self.sku, user_id=user, request_id="r", quantity=1, epoch=1
                )
                for number, user in zip(numbers, users, strict=True)
            ]
        )
        return sorted(numbers)

    async def pay(self, number: str) -> None:
        """Pay, or come too late."""
        payment = Payment(
            order_no=number,
            payment_id=new_id("payment"),
            amount_minor=PRICE.minor_units,
            currency=PRICE.currency,
            user_id="",
        )
        with suppress(PaymentTooLate):
            await self.orders.pay(payment)

    async def end(self, number: str, *, rng: random.Random) -> None:
        """Cancel, or refund one way or the other; what does not fit is refused."""
        with suppress(OrderStateConflict):
            if rng.random() < 0.5:
                await self.orders.cancel(number, user_id="")
            else:
                restock = rng.random() < 0.5
                await self.orders.refund(number, refund_id=new_id("refund"), restock=restock)

    async def execute(self, statement: str, *arguments: object) -> None:
        """Whatever somebody with the owner's rights may do."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(statement, *arguments)
        await connection.close()

    async def command(self) -> tuple[int, str]:
        """Run `seckill audit`; returns its exit status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seckill", "audit", "--sku", self.sku, "--dsn", self.dsn),
            env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


@pytest.fixture
async def history(database_dsn: str) -> AsyncIterator[History]:
    """A registered sale."""
    facts = {"postgres_dsn": database_dsn, "redis_url": "redis://none", "kafka_bootstrap": "n:1"}
    async with open_database(OrderSettings.model_validate(facts)) as database:
        terms = sale_terms(units=UNITS)
        await SaleRepository(database).register(terms)
        parts = (OrderIntake(database), OrderRepository(database))
        yield History(database_dsn, terms.sku, parts)


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


async def test_proof_is_shown_with_its_evidence(history: History) -> None:
    """Sold out: the peak, the rows, the orders and the account of all units, exit status 0."""
    numbers = await history.reserve(UNITS + 10)
    await history.pay(numbers[0])
    status, shown = await history.command()
    assert status == 0, shown
    assert "PROVEN" in shown
    assert f"{1 + UNITS + 10 + 1} rows replayed" in shown
    assert re.search(rf"most were {UNITS} of {UNITS} at 2\S+ \S+ UTC, row \d+", shown)
    assert re.search(rf"in orders that await payment +{UNITS - 1}", shown)


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


async def test_disproof_shows_the_first_wrong_row(history: History) -> None:
    """Exit status 1, the row, and why it is wrong."""
    await history.reserve(UNITS)
    await history.execute(LEDGER_ROW, history.sku, "Z" * 26, "reserved", 1)
    status, shown = await history.command()
    assert status == 1
    assert f"DISPROVEN: this makes {UNITS + 1} units out, and only {UNITS} were loaded." in shown
    assert "Z" * 26 in shown
    assert "BROKEN" in shown


async def test_what_cannot_be_audited_is_no_verdict(history: History) -> None:
    """An unknown sku exits with 2, in one line."""
    history.sku = "never-registered"
    status, shown = await history.command()
    assert status == 2
    assert shown.splitlines() == ["error: the database knows no sale never-registered"]
