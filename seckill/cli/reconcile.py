"""`seckill reconcile`: do Redis and the database agree about a sale?"""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from seckill.cli.mesh import channel_to
from seckill.v1 import rollback_pb2, rollback_pb2_grpc

# A comparison waits for the consumers.
RECONCILE_TIMEOUT_S = 60.0
console = Console()

RollbackOption = Annotated[
    str,
    typer.Option(
        "--rollback",
        envvar="SECKILL_ROLLBACK_TARGET",
        help="Address of the rollback service.",
        show_default="the local stack's",
    ),
]


def reconcile(
    sku: Annotated[str, typer.Argument(help="Sku of the sale.")],
    repair: Annotated[
        bool, typer.Option(help="Repair what can only sell less: holds, orders, the counter.")
    ] = False,
    restock: Annotated[
        bool, typer.Option(help="With --repair: also put units on sale that Redis withholds.")
    ] = False,
    rollback: RollbackOption = "",
) -> None:
    """Compare Redis with the database, order by order; exits with 1 while they differ."""
    if restock and not repair:
        raise typer.BadParameter("--restock needs --repair")
    request = rollback_pb2.ReconcileRequest(sku=sku, repair=repair, repair_restock=restock)
    with channel_to("rollback", rollback) as channel:
        answer = rollback_pb2_grpc.RollbackServiceStub(channel).Reconcile(
            request, timeout=RECONCILE_TIMEOUT_S
        )
    if not answer.findings:
        console.print(f"{sku}: Redis and the database agree")
        return
    console.print(_table(answer))
    if answer.unlisted_findings:
        console.print(f"and {answer.unlisted_findings} more")
    if answer.unlisted_findings or not all(finding.repaired for finding in answer.findings):
        sys.exit(1)


def _table(answer: rollback_pb2.ReconcileResponse) -> Table:
    table = Table("order", "units", "repaired", "what is wrong", box=None)
    for finding in answer.findings:
        table.add_row(
            finding.order_no or "-",
            f"{finding.units:+d}",
            "yes" if finding.repaired else "no",
            finding.explanation,
        )
    return table
