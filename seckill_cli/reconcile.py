"""`seckill reconcile`: do Redis and the database agree about a sale?"""

import sys
from typing import Annotated

import typer

from seckill.v1 import rollback_pb2, rollback_pb2_grpc
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.mesh import RollbackOption, channel_to

# A comparison waits for the consumers.
RECONCILE_TIMEOUT_S = 60.0
console = display.console()


def reconcile(
    sku: Annotated[str, typer.Argument(help="Sku of the sale.")],
    repair: Annotated[
        bool, typer.Option(help="Repair what orders account for: all but units that are missing.")
    ] = False,
    restock: Annotated[
        bool, typer.Option(help="With --repair: also put units on sale that are missing.")
    ] = False,
    rollback: RollbackOption = "",
) -> None:
    """Compare Redis with the database, order by order; exits with 1 while they differ."""
    if restock and not repair:
        raise typer.BadParameter("needs --repair", param_hint="'--restock'")
    request = rollback_pb2.ReconcileRequest(sku=sku, repair=repair, repair_restock=restock)
    with channel_to("rollback", rollback) as channel:
        answer = rollback_pb2_grpc.RollbackServiceStub(channel).Reconcile(
            request, timeout=RECONCILE_TIMEOUT_S
        )
    if not answer.findings:
        console.print(f"{display.shown(sku)}: Redis and the database agree")
        return
    console.print(_table(answer))
    if answer.unlisted_findings:
        console.print(f"and {answer.unlisted_findings} more")
    if answer.unlisted_findings or not all(finding.repaired for finding in answer.findings):
        sys.exit(1)


def _table(answer: rollback_pb2.ReconcileResponse) -> TextTable:
    rows = table(("order", "units", "repaired"), ("what is wrong",))
    for finding in answer.findings:
        rows.add_text(
            finding.order_no or "-",
            f"{finding.units:+d}",
            "yes" if finding.repaired else "no",
            finding.explanation,
        )
    return rows
