"""Reads all that an audit of one sale needs, as it stood at one moment, and replays it."""

from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from order_svc.ledger import LedgerWrong, Movement, OrderRow, Replay, Rule
from order_svc.statements import statement
from seckill.errors import SaleNotFound

# Rows fetched at a time: an audit needs memory for each order, not for each row.
PREFETCH_ROWS = 5_000
CONNECT_TIMEOUT_S = 10.0


@dataclass
class Audit:
    """What was found.

    Attributes:
        sku: of the sale.
        read_at: the moment that was looked at, by the database's clock.
        total, sold: what the sale's own row says.
        replay: what the ledger adds up to; up to the wrong row, where there is one.
        compared: orders held against the ledger.
        wrong: the first thing that is wrong; None where nothing is.
    """

    sku: str
    read_at: datetime
    total: int
    sold: int
    replay: Replay = field(default_factory=Replay)
    compared: int = 0
    wrong: LedgerWrong | None = None


async def audit_sale(dsn: str, sku: str) -> Audit:
    """Audit one sale. Reads one snapshot and writes nothing, so it may run during the sale.

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
            sale = await connection.fetchrow(statement("audit_sale"), sku)
            if sale is None:
                raise SaleNotFound
            audit = Audit(sku, sale["read_at"], sale["total"], sale["sold"])
            try:
                await _replay(connection, audit)
                await _compare(connection, audit)
                if not sale["append_only"]:
                    raise LedgerWrong(
                        Rule.APPEND_ONLY,
                        "the trigger stock_ledger_append_only is missing or switched off",
                    )
            except LedgerWrong as wrong:
                audit.wrong = wrong
    finally:
        await connection.close()
    return audit


async def _replay(connection: asyncpg.Connection, audit: Audit) -> None:
    rows = connection.cursor(statement("audit_ledger"), audit.sku, prefetch=PREFETCH_ROWS)
    async for row in rows:
        audit.replay.take(Movement(*row))


async def _compare(connection: asyncpg.Connection, audit: Audit) -> None:
    rows = connection.cursor(statement("audit_orders"), audit.sku, prefetch=PREFETCH_ROWS)
    async for row in rows:
        audit.replay.compare_order(OrderRow(*row))
        audit.compared += 1
    audit.replay.compare_count(audit.compared)
    audit.replay.compare_sale(total=audit.total, sold=audit.sold)
