"""`seckill policy …`: what a sale asks of its buyers."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from seckill.v1 import gate_pb2 as pb
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import Metadata, RulesStub, TokenOption, gate_rules

app = typer.Typer(help="Say what a sale asks of its buyers.", no_args_is_help=True)
console = display.console()
PAGE_SIZE = 1_000


@app.command()
def show(
    sku: Annotated[str, typer.Argument(help="The sale; without it all that have a policy.")] = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Show the policy of a sale, or of all that have one."""
    with gate_rules(order, token) as (stub, metadata):
        if sku:
            request = pb.GetSalePolicyRequest(sku=sku)
            answer = stub.GetSalePolicy(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
            found = [answer.policy]
        else:
            found = list(_policies(stub, metadata))
    console.print(_table(found))


@app.command("set")
def set_policy(
    sku: Annotated[str, typer.Argument(help="The sale.")],
    challenge_at: Annotated[
        int | None, typer.Option(help="Risk score that is challenged, 1 to 100; 0: never.")
    ] = None,
    refuse_at: Annotated[
        int | None, typer.Option(help="Risk score that is refused, 1 to 100; 0: never.")
    ] = None,
    clean_history: Annotated[
        bool | None,
        typer.Option("--clean-history/--any-history", help="Whether unpaid history refuses."),
    ] = None,
    admission_multiple: Annotated[
        float | None,
        typer.Option(help="Purchases let through for each unit left; 0: as the gateways are set."),
    ] = None,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Change the policy of a sale; what is not named stays as it is."""
    with gate_rules(order, token) as (stub, metadata):
        known = stub.GetSalePolicy(
            pb.GetSalePolicyRequest(sku=sku), metadata=metadata, timeout=CALL_TIMEOUT_S
        )
        policy = known.policy
        if challenge_at is not None:
            policy.challenge_at = challenge_at
        if refuse_at is not None:
            policy.refuse_at = refuse_at
        if clean_history is not None:
            policy.require_clean_history = clean_history
        if admission_multiple is not None:
            policy.admission_multiple = admission_multiple
        request = pb.SetSalePolicyRequest(policy=policy)
        answer = stub.SetSalePolicy(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(_table([answer.policy]))


def _policies(stub: RulesStub, metadata: Metadata) -> Iterator[pb.SalePolicy]:
    request = pb.ListSalePoliciesRequest(page_size=PAGE_SIZE)
    while True:
        page = stub.ListSalePolicies(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
        yield from page.policies
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _table(policies: Iterable[pb.SalePolicy]) -> TextTable:
    rows = table(("sku",), ("challenge at", "refuse at", "clean history", "admission multiple"))
    for policy in policies:
        rows.add_text(
            policy.sku,
            str(policy.challenge_at or "-"),
            str(policy.refuse_at or "-"),
            "asked for" if policy.require_clean_history else "-",
            f"{policy.admission_multiple:g}" if policy.admission_multiple else "-",
        )
    return rows
