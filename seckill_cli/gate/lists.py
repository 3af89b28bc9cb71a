"""`seckill list …`: who is allowed and who is denied at the gate."""

import itertools
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated

import typer

from seckill.v1 import gate_pb2 as pb
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import Metadata, RulesStub, TokenOption, gate_rules
from seckill_cli.terms import moment, show_moment

app = typer.Typer(help="Allow and deny callers at the gate.", no_args_is_help=True)
console = display.console()
PAGE_SIZE = 1_000


class Which(StrEnum):
    """The lists."""

    allow = "allow"
    deny = "deny"


LISTS = {Which.allow: pb.GATE_LIST_ALLOW, Which.deny: pb.GATE_LIST_DENY}
LIST_NAMES = {number: which.value for which, number in LISTS.items()}
KIND_NAMES = {
    pb.GATE_ENTRY_KIND_USER: "user",
    pb.GATE_ENTRY_KIND_NETWORK: "network",
    pb.GATE_ENTRY_KIND_USER_AGENT: "user agent",
}

UserOption = Annotated[str, typer.Option(help="A user id.")]
NetworkOption = Annotated[str, typer.Option(help="An address or a network, like 192.0.2.0/24.")]
AgentOption = Annotated[str, typer.Option(help="A part of the header user-agent.")]


@app.command()
def add(
    which: Annotated[Which, typer.Argument(help="The list.")],
    reason: Annotated[str, typer.Option(help="Why; kept on record.")],
    user: UserOption = "",
    network: NetworkOption = "",
    user_agent: AgentOption = "",
    expires: Annotated[
        str, typer.Option(help="When it ends by itself: +2h, or a time in ISO 8601.")
    ] = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Put a user, a network or a user agent on a list, in force on every gateway at once."""
    kind, value = _named(user, network, user_agent)
    request = pb.AddListEntryRequest(list=LISTS[which], kind=kind, value=value, reason=reason)
    if expires:
        request.expire_time.CopyFrom(moment(expires, "--expires"))
    with gate_rules(order, token) as (stub, metadata):
        answer = stub.AddListEntry(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(_table([answer.entry]))


@app.command()
def remove(
    user: UserOption = "",
    network: NetworkOption = "",
    user_agent: AgentOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Take a user, a network or a user agent off its list."""
    kind, value = _named(user, network, user_agent)
    request = pb.RemoveListEntryRequest(kind=kind, value=value)
    with gate_rules(order, token) as (stub, metadata):
        answer = stub.RemoveListEntry(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(f"removed, revision {answer.revision}")
    console.print(_table([answer.entry]))


@app.command()
def show(
    which: Annotated[Which | None, typer.Argument(help="The list; without it both.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1_000,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List the entries that are in force, oldest first."""
    request = pb.ListEntriesRequest(
        list=LISTS[which] if which else pb.GATE_LIST_UNSPECIFIED, page_size=min(limit, PAGE_SIZE)
    )
    with gate_rules(order, token) as (stub, metadata):
        found = list(itertools.islice(_entries(stub, metadata, request), limit))
    console.print(_table(found))
    console.print(f"{len(found)} entries")


def _named(user: str, network: str, user_agent: str) -> tuple["pb.GateEntryKind.ValueType", str]:
    given = [
        (kind, value)
        for kind, value in (
            (pb.GATE_ENTRY_KIND_USER, user),
            (pb.GATE_ENTRY_KIND_NETWORK, network),
            (pb.GATE_ENTRY_KIND_USER_AGENT, user_agent),
        )
        if value
    ]
    if len(given) != 1:
        raise CommandFailed("give one of --user, --network and --user-agent")
    return given[0]


def _entries(
    stub: RulesStub, metadata: Metadata, request: pb.ListEntriesRequest
) -> Iterator[pb.GateEntry]:
    while True:
        page = stub.ListEntries(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
        yield from page.entries
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _table(entries: Iterable[pb.GateEntry]) -> TextTable:
    rows = table(("list", "kind", "value"), ("until", "by", "added", "reason"))
    for entry in entries:
        rows.add_text(
            LIST_NAMES.get(entry.list, "?"),
            KIND_NAMES.get(entry.kind, "?"),
            entry.value,
            show_moment(entry.expire_time),
            entry.operator or "-",
            show_moment(entry.create_time),
            entry.reason,
        )
    return rows
