"""Reads all that an audit of one sale needs, as of one moment, and replays it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from order_svc.audit.ledger import LedgerWrong, Movement, OrderRow, Replay, Rule
from order_svc.audit.money import Money, account_payments
from order_svc.db.database import Connection, Database, Row, prepare
from order_svc.db.statements import statement
from order_svc.sales.model import change_of
from seckill.errors import AuditTooLarge, SaleNotFound
from seckill.v1 import sale_pb2

# Rows fetched and replayed at a time, about 5 ms: then other calls get their turn.
PAGE_ROWS = 500
CONNECT_TIMEOUT_S = 10.0
# For one page; the first one may have to pass over the rows of all other sales.
PAGE_TIMEOUT_S = 60.0
# Changes by operators, and orders voided by them, that an audit shows.
CHANGES_MAX = 1_000


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        sku: of the sale.
        read_at: the moment that was audited, by the database's clock.
        total, sold: what the sale's own row says.
        replay: what the ledger adds up to; up to the wrong row, if there is one.
        compared: orders compared with the ledger.
        money: what was paid for the sale's orders, by currency.
        changes: the latest that operators made, oldest first.
        voids: rows of audit_voids.sql, the latest orders that operators voided, oldest first.
        wrong: the first thing that is wrong; None if nothing is.
    """

    sku: str
    read_at: datetime
    total: int
    sold: int
    replay: Replay = field(default_factory=Replay)
    compared: int = 0
    money: tuple[Money, ...] = ()
    changes: tuple[sale_pb2.SaleChange, ...] = ()
    voids: tuple[Row, ...] = ()
    wrong: LedgerWrong | None = None


class SaleAuditor:
    """Audits sales over the service's own connections."""

    def __init__(self, database: Database, *, orders_max: int) -> None:
        """`orders_max`: orders of the largest sale that is replayed."""
        self._database = database
        self._orders_max = orders_max

    async def audit(self, sku: str) -> Audit:
        """Audit one sale; it may be running.

        Raises:
            SaleNotFound: it is not registered.
            AuditTooLarge: it has more orders than `orders_max`.
            DependencyUnavailable: the database does not answer.
        """
        async with self._database.reading() as connection:
            return await _audit(connection, sku, orders_max=self._orders_max)


async def audit_sale(dsn: str, sku: str) -> Audit:
    """Audit one sale over a connection of its own, however many orders it has.

    Args:
        dsn: postgresql:// address of the order database; a replica will do.
        sku: of the sale.

    Raises:
        SaleNotFound: it is not registered.
        asyncpg.PostgresError, OSError: the database cannot be read.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _audit(connection, sku)
    finally:
        await connection.close()


async def _audit(connection: Connection, sku: str, *, orders_max: int | None = None) -> Audit:
    """Audit one sale inside a read-only transaction; writes nothing."""
    timeout_ms = str(int(PAGE_TIMEOUT_S * 1000))
    await connection.fetch(statement("audit/set_audit_timeout"), timeout_ms)
    sale = await (await prepare(connection, "audit/audit_sale")).fetchrow(sku)
    if sale is None:
        raise SaleNotFound
    audit = Audit(sku, sale["read_at"], sale["total"], sale["sold"])
    changes = await connection.fetch(statement("audit/audit_changes"), sku, CHANGES_MAX)
    audit.changes = tuple(map(change_of, changes))
    audit.voids = tuple(await connection.fetch(statement("audit/audit_voids"), sku, CHANGES_MAX))
    try:
        async for page in _pages(connection, "audit/audit_ledger", sku):
            for row in page:
                audit.replay.take(Movement(*row))
            if orders_max is not None and audit.replay.orders > orders_max:
                raise AuditTooLarge(
                    f"the sale has more than {orders_max} orders; SECKILL_ORDER_AUDIT_ORDERS_MAX"
                    " sets how many this service audits"
                )
        async for page in _pages(connection, "audit/audit_orders", sku):
            for row in page:
                audit.replay.compare_order(OrderRow(*row))
                audit.compared += 1
        audit.replay.compare_count(audit.compared)
        audit.replay.compare_sale(total=audit.total, sold=audit.sold)
        if not sale["append_only"]:
            raise LedgerWrong(
                Rule.APPEND_ONLY,
                "the trigger stock_ledger_append_only is missing or switched off",
            )
        audit.money = account_payments(
            await connection.fetch(statement("audit/audit_payments"), sku, timeout=PAGE_TIMEOUT_S)
        )
    except LedgerWrong as wrong:
        audit.wrong = wrong
    return audit


async def _pages(connection: Connection, name: str, sku: str) -> AsyncIterator[list[Row]]:
    prepared = await prepare(connection, name, timeout_s=PAGE_TIMEOUT_S)
    cursor = await prepared.cursor(sku, timeout=PAGE_TIMEOUT_S)
    while rows := await cursor.fetch(PAGE_ROWS, timeout=PAGE_TIMEOUT_S):
        yield rows
