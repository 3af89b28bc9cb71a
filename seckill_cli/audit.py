"""`seckill audit`: replay a sale's ledger, and prove or disprove that it was never oversold."""

import sys
from collections.abc import Iterable
from typing import Annotated, NoReturn

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from seckill.v1 import order_admin_pb2 as pb
from seckill.v1 import sale_pb2
from seckill_cli import display
from seckill_cli.display import shown, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import OrderOption
from seckill_cli.operators import TokenOption, order_admin, status_line
from seckill_cli.sale_changes import changes_table
from seckill_cli.terms import show_money

# 1 is a ledger that is wrong; this is one that could not be read.
EXIT_UNREADABLE = 2
# A sale of some hundred thousand orders takes most of a minute.
AUDIT_TIMEOUT_S = 300.0
RULES = {
    pb.AUDIT_RULE_LOADED_ONCE: "the ledger starts with the sale's one load",
    pb.AUDIT_RULE_LEGAL_PATH: "every movement is a legal step of its order",
    pb.AUDIT_RULE_SAME_UNITS: "each order moves the same units throughout",
    pb.AUDIT_RULE_NEVER_OVERSOLD: "at no moment were more units sold than loaded",
    pb.AUDIT_RULE_ORDERS_AGREE: "the ledger ends as the orders stand",
    pb.AUDIT_RULE_SALE_AGREES: "the ledger ends as the sale counts",
    pb.AUDIT_RULE_APPEND_ONLY: "the database refuses to change or remove a row",
    pb.AUDIT_RULE_PAYMENTS_AGREE: "payments and orders agree, all that was taken is accounted for",
}
console = display.console()


def audit(
    sku: Annotated[str, typer.Option(help="Sku of the sale.")],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Prove from the ledger that a sale was never oversold and every unit is accounted for.

    Replays all movements of its units from the first. Exits with 1 at the first wrong row, which is
    shown and explained, and with 2 if the ledger cannot be read.
    """
    try:
        with order_admin(order, token) as (stub, metadata):
            found = stub.AuditSale(
                pb.AuditSaleRequest(sku=sku), metadata=metadata, timeout=AUDIT_TIMEOUT_S
            )
    except CommandFailed as error:
        _fail(str(error))
    except grpc.RpcError as error:
        _fail(status_line(error))
    _show(sku, found)
    if not found.proven:
        sys.exit(1)


def _fail(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {shown(problem)}\n")
    sys.exit(EXIT_UNREADABLE)


def _show(sku: str, found: pb.AuditSaleResponse) -> None:
    console.print(f"Audit of sale {shown(sku)}, as of {_moment(found.read_time)}")
    console.print(f"{found.replayed_rows} rows replayed, sha256 {found.digest}\n")
    console.print(_checks(found))
    console.print()
    if found.proven:
        console.print(_account(found.units))
        console.print()
        if found.payments:
            console.print(_payments(found.payments))
            console.print()
        if found.changes:
            console.print(changes_table(found.changes))
            console.print()
        if found.voids:
            console.print(_voids(found.voids))
            console.print()
        verdict = Text("PROVEN", "bold green").append(
            ": never oversold, every unit accounted for.", "not bold default"
        )
        console.print(verdict)
        return
    explanation = f": {shown(found.explanation)}."
    console.print(Text("DISPROVEN", "bold red").append(explanation, "not bold default"))
    if found.HasField("wrong_row"):
        console.print(_row(found.wrong_row))


def _checks(found: pb.AuditSaleResponse) -> Table:
    rows = f"{found.replayed_rows} rows"
    peak = found.peak_row
    when = f" at {_moment(peak.write_time)}, row {peak.id}" if found.HasField("peak_row") else ""
    evidence = {
        pb.AUDIT_RULE_LOADED_ONCE: f"{found.units.loaded} units",
        pb.AUDIT_RULE_LEGAL_PATH: f"{rows}, {found.ledger_orders} orders",
        pb.AUDIT_RULE_SAME_UNITS: rows,
        pb.AUDIT_RULE_NEVER_OVERSOLD: f"most were {found.peak_units} of {found.units.loaded}{when}",
        pb.AUDIT_RULE_ORDERS_AGREE: f"{found.compared_orders} orders",
        pb.AUDIT_RULE_SALE_AGREES: f"{found.sale_sold_units} sold of {found.sale_total_units}",
        pb.AUDIT_RULE_APPEND_ONLY: "trigger stock_ledger_append_only",
        pb.AUDIT_RULE_PAYMENTS_AGREE: ", ".join(account.currency for account in found.payments),
    }
    checks = table((), ("checked", "on", "result"))
    for check in found.checks:
        rule = check.rule
        checks.add_row(
            RULES.get(rule, str(rule)), evidence.get(rule, ""), _result(check.result, found)
        )
    return checks


def _result(result: pb.AuditResult.ValueType, found: pb.AuditSaleResponse) -> Text:
    if result == pb.AUDIT_RESULT_HOLDS:
        return Text("holds", "green")
    if result == pb.AUDIT_RESULT_BROKEN:
        return Text("BROKEN", "red")
    if result == pb.AUDIT_RESULT_HELD_BEFORE:
        return Text(f"held before row {found.wrong_row.id}")
    return Text("not reached")


def _account(units: pb.UnitAccount) -> Table:
    account = table((), ("where the units are", "units"))
    account.columns[1].justify = "right"
    for what, count in (
        ("not sold", units.unsold),
        ("  of these on their way back into Redis", units.returning),
        ("in orders that await payment", units.awaiting_payment),
        ("in paid orders", units.paid),
        ("refunded and written off", units.written_off),
        ("loaded", units.loaded),
    ):
        account.add_row(what, str(count))
    return account


def _payments(accounts: Iterable[pb.PaymentAccount]) -> Table:
    rows = table((), ("where the money is", "taken", "applied", "to refund", "refunded"))
    for account in accounts:
        amounts = (account.taken, account.applied, account.to_refund, account.refunded)
        rows.add_text(
            account.currency,
            *(
                show_money(sale_pb2.Money(currency=account.currency, minor_units=amount))
                for amount in amounts
            ),
        )
    return rows


def _voids(voids: Iterable[pb.OrderVoid]) -> Table:
    rows = table(("voided order", "by", "voided"), ("why",))
    for void in voids:
        rows.add_text(void.order_no, void.operator or "-", _moment(void.void_time), void.reason)
    return rows


def _row(row: pb.LedgerRow) -> Table:
    shown_row = table(("first wrong row", "kind", "order"), ("units", "written"))
    shown_row.add_text(
        str(row.id), row.kind, row.order_no or "-", str(row.units), _moment(row.write_time)
    )
    return shown_row


def _moment(stamp: Timestamp) -> str:
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
