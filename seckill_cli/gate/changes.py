"""`seckill gate-changes`: what operators changed of the rules of the gate."""

import itertools
from collections.abc import Iterator
from typing import Annotated

import typer

from seckill.v1 import gate_pb2 as pb
from seckill_cli import display
from seckill_cli.display import table
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import Metadata, RulesStub, TokenOption, gate_rules
from seckill_cli.terms import show_moment

console = display.console()
PAGE_SIZE = 1_000
KIND_PREFIX = "GATE_CHANGE_KIND_"


def gate_changes(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List who changed what of the gate's limits, lists and policies, latest first."""
    request = pb.ListGateChangesRequest(page_size=min(limit, PAGE_SIZE))
    rows = table(("revision", "changed", "by", "what"), ("before", "after"))
    with gate_rules(order, token) as (stub, metadata):
        for change in itertools.islice(_changes(stub, metadata, request), limit):
            kind = pb.GateChangeKind.Name(change.kind).removeprefix(KIND_PREFIX)
            rows.add_text(
                str(change.revision),
                show_moment(change.change_time),
                change.operator,
                kind.lower().replace("_", " "),
                change.before,
                change.after,
            )
    console.print(rows)


def _changes(
    stub: RulesStub, metadata: Metadata, request: pb.ListGateChangesRequest
) -> Iterator[pb.GateChange]:
    while True:
        page = stub.ListGateChanges(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
        yield from page.changes
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
