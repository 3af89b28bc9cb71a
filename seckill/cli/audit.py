"""`seckill audit`: replay a sale's ledger, and prove or disprove that it was never oversold."""

import asyncio
import sys
from datetime import datetime
from typing import Annotated, NoReturn

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from order_svc.audit import Audit, audit_sale
from order_svc.ledger import Movement, Rule
from seckill.cli.mesh import local_state
from seckill.errors import SaleNotFound

# 1 is a ledger that is wrong; this is one that could not be read.
EXIT_UNREADABLE = 2
_BY_ROW = (Rule.LOADED_ONCE, Rule.LEGAL_PATH, Rule.SAME_UNITS, Rule.NEVER_OVERSOLD)
console = Console()


def audit(
    sku: Annotated[str, typer.Option(help="Sku of the sale.")],
    dsn: Annotated[
        str,
        typer.Option(
            envvar="SECKILL_POSTGRES_DSN",
            help="Address of the order database; a replica will do.",
            show_default="the local stack's",
            show_envvar=True,
        ),
    ] = "",
) -> None:
    """Prove from the ledger that a sale was never oversold and every unit is accounted for.

    Replays all movements of its units from nothing. Exits with 1 at the first wrong row, which is
    shown and explained, and with 2 where the database cannot be read.
    """
    state = local_state()
    address = dsn or (state.stores.postgres_dsn if state else "")
    if not address:
        raise typer.BadParameter("no local stack runs: give --dsn or SECKILL_POSTGRES_DSN")
    try:
        found = asyncio.run(audit_sale(address, sku))
    except SaleNotFound:
        _fail(f"the database knows no sale {sku}")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        _fail(f"the ledger cannot be read: {error!r}")
    _show(found)
    if found.wrong is not None:
        sys.exit(1)


def _fail(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(EXIT_UNREADABLE)


def _show(found: Audit) -> None:
    replay = found.replay
    console.print(f"Audit of sale [bold]{found.sku}[/], as of {_moment(found.read_at)}")
    console.print(f"{replay.rows.total()} rows replayed, sha256 {replay.digest}\n")
    console.print(_checks(found))
    console.print()
    if found.wrong is None:
        console.print(_account(found))
        console.print("\n[bold green]PROVEN[/]: never oversold, every unit accounted for.")
        return
    console.print(f"[bold red]DISPROVEN[/]: {found.wrong.explanation}.")
    if found.wrong.movement is not None:
        console.print(_row(found.wrong.movement))


def _checks(found: Audit) -> Table:
    replay, peak = found.replay, found.replay.peak
    rows = f"{replay.rows.total()} rows"
    when = f" at {_moment(peak.movement.at)}, row {peak.movement.id}" if peak.movement else ""
    evidence = {
        Rule.LOADED_ONCE: f"{replay.loaded} units",
        Rule.LEGAL_PATH: f"{rows}, {replay.orders} orders",
        Rule.SAME_UNITS: rows,
        Rule.NEVER_OVERSOLD: f"most were {peak.units} of {replay.loaded}{when}",
        Rule.ORDERS_AGREE: f"{found.compared} orders",
        Rule.SALE_AGREES: f"{found.sold} sold of {found.total}",
        Rule.APPEND_ONLY: "trigger stock_ledger_append_only",
    }
    table = Table("checked", "on", "result", box=None)
    for rule in Rule:
        table.add_row(rule.value, evidence[rule], _result(rule, found))
    return table


def _result(rule: Rule, found: Audit) -> str:
    wrong = found.wrong
    if wrong is None:
        return "[green]holds[/]"
    if rule is wrong.rule:
        return "[red]BROKEN[/]"
    if wrong.rule in _BY_ROW and wrong.movement is not None:
        # The rows are checked for all of these together, up to the wrong one.
        return f"held before row {wrong.movement.id}" if rule in _BY_ROW else "not reached"
    order = list(Rule)
    return "[green]holds[/]" if order.index(rule) < order.index(wrong.rule) else "not reached"


def _account(found: Audit) -> Table:
    replay, units = found.replay, found.replay.units()
    table = Table("where the units are", "units", box=None)
    table.columns[1].justify = "right"
    for what, count in (
        ("not sold", replay.loaded - replay.out),
        ("  of these on their way back into Redis", units["returning"]),
        ("in orders that await payment", units["reserved"]),
        ("in paid orders", units["paid"]),
        ("refunded and written off", units["written_off"]),
        ("loaded", replay.loaded),
    ):
        table.add_row(what, str(count))
    return table


def _row(movement: Movement) -> Table:
    table = Table("first wrong row", "kind", "order", "units", "written", box=None)
    table.add_row(
        str(movement.id),
        movement.kind,
        movement.order_no or "-",
        str(movement.quantity),
        _moment(movement.at),
    )
    return table


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
