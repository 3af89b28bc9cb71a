"""`seckill dlq …`: look at dead letters, redrive or drop them."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from seckill.v1 import order_admin_pb2 as pb
from seckill_cli import display
from seckill_cli.display import table
from seckill_cli.mesh import OrderOption
from seckill_cli.operators import Metadata, Refused, Stub, TokenOption, order_admin, settle_all

app = typer.Typer(help="Look at dead letters and settle them.", no_args_is_help=True)
console = display.console()
# Reading a full topic takes its time.
TIMEOUT_S = 60.0
PAGE_SIZE = 200
# What one call settles at most.
SETTLED_MAX = 100
# Bytes of a message that `show` prints.
MESSAGE_SHOWN_MAX = 512
UNITS_PREFIX = "DEAD_LETTER_UNITS_"
ACTION_PREFIX = "DEAD_LETTER_ACTION_"

PositionsArgument = Annotated[
    list[str] | None, typer.Argument(help="Which letters, partition:offset each.")
]
CauseOption = Annotated[str, typer.Option(help="All open letters with this cause as well.")]


@app.command("list")
def list_letters(
    settled: Annotated[bool, typer.Option("--all", help="Settled ones, too.")] = False,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List letters that are not settled yet, by position."""
    columns = ("letter", "written", "cause", "order", "sku", "units", "state")
    letters = table(columns, ("error",))
    hidden = 0
    with order_admin(order, token) as (stub, metadata):
        for page in _pages(stub, metadata, pb.ListDeadLettersRequest(include_settled=settled)):
            hidden = 0 if settled else page.settled_count
            for letter in page.dead_letters:
                letters.add_text(*_cells(letter))
    console.print(letters)
    console.print(f"{letters.row_count} letters, {hidden} settled ones not shown")


def _pages(
    stub: Stub, metadata: Metadata, request: pb.ListDeadLettersRequest
) -> Iterator[pb.ListDeadLettersResponse]:
    request.page_size = PAGE_SIZE
    while True:
        page = stub.ListDeadLetters(request, metadata=metadata, timeout=TIMEOUT_S)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _cells(letter: pb.DeadLetter) -> tuple[str, ...]:
    units = _name(pb.DeadLetterUnits.Name(letter.units), UNITS_PREFIX)
    action = letter.settlement.action
    return (
        letter.position,
        letter.write_time.ToJsonString(),
        letter.cause or letter.type,
        letter.order_no or "-",
        letter.sku or "-",
        " ".join(filter(None, (str(letter.quantity or ""), units))) or "-",
        _name(pb.DeadLetterAction.Name(action), ACTION_PREFIX) or "open",
        letter.error,
    )


def _name(value: str, prefix: str) -> str:
    name = value.removeprefix(prefix).lower()
    return "" if name == "unspecified" else name


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="Which letter, partition:offset.")],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Show everything about one letter."""
    with order_admin(order, token) as (stub, metadata):
        found = stub.GetDeadLetter(
            pb.GetDeadLetterRequest(position=letter), metadata=metadata, timeout=TIMEOUT_S
        )
    facts = table(("",), ("",))
    facts.show_header = False
    for name, value in sorted(found.headers.items()):
        facts.add_text(name, value)
    message = found.message[:MESSAGE_SHOWN_MAX].hex()
    facts.add_text("message", f"{found.message_bytes} bytes: {message}")
    if found.dead_letter.HasField("settlement"):
        done = found.dead_letter.settlement
        action = _name(pb.DeadLetterAction.Name(done.action), ACTION_PREFIX)
        by = f" by {done.operator}" if done.operator else ""
        facts.add_text("settled", f"{action} at {done.time}{by}: {done.note}")
    console.print(facts)


@app.command()
def redrive(
    letters: PositionsArgument = None,
    cause: CauseOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Put letters back on the topic they came from, once their cause is fixed."""
    with order_admin(order, token) as (stub, metadata):

        def settle(some: Sequence[str]) -> tuple[int, Sequence[Refused]]:
            request = pb.RedriveDeadLettersRequest(positions=some)
            done = stub.RedriveDeadLetters(request, metadata=metadata, timeout=TIMEOUT_S)
            return done.redriven_count, done.refused

        settle_all(SETTLED_MAX, "letters", settle, _chosen(stub, metadata, letters or [], cause))


@app.command()
def drop(
    note: Annotated[str, typer.Option(help="Why nothing is to be done about them.")],
    letters: PositionsArgument = None,
    cause: CauseOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Mark letters as dropped, with a reason. Units that they hold stay held."""
    with order_admin(order, token) as (stub, metadata):

        def settle(some: Sequence[str]) -> tuple[int, Sequence[Refused]]:
            request = pb.DropDeadLettersRequest(positions=some, note=note)
            done = stub.DropDeadLetters(request, metadata=metadata, timeout=TIMEOUT_S)
            return done.dropped_count, done.refused

        settle_all(SETTLED_MAX, "letters", settle, _chosen(stub, metadata, letters or [], cause))


def _chosen(stub: Stub, metadata: Metadata, named: list[str], cause: str) -> list[str]:
    """Return the positions named, and those of the open letters with the cause."""
    if not named and not cause:
        raise typer.BadParameter("name letters, or a --cause")
    positions = dict.fromkeys(named)
    if cause:
        for page in _pages(stub, metadata, pb.ListDeadLettersRequest(cause=cause)):
            positions |= dict.fromkeys(letter.position for letter in page.dead_letters)
    return list(positions)
