"""`seckill dlq …`: look at dead letters, put them back to work, or lay them aside."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from order_svc.kafka_writer import open_writer
from order_svc.letters import Letter, LetterBox, LetterRefused, Position, read_letters
from seckill.cli.mesh import local_state
from seckill.clock import SystemClock
from seckill.errors import DependencyUnavailable

app = typer.Typer(help="Look at dead letters and settle them.", no_args_is_help=True)
console = Console()
KAFKA_TIMEOUT_S = 30.0
# Bytes of a message that `show` prints.
VALUE_SHOWN_MAX = 512

BootstrapOption = Annotated[
    str,
    typer.Option(
        envvar="SECKILL_KAFKA_BOOTSTRAP",
        help="Kafka brokers, host:port.",
        show_default="the local stack's",
        show_envvar=True,
    ),
]
TopicOption = Annotated[
    str,
    typer.Option(
        envvar="SECKILL_DEAD_LETTER_TOPIC", help="Topic of the dead letters.", show_envvar=True
    ),
]
PositionsArgument = Annotated[
    list[str] | None, typer.Argument(help="Which letters, partition:offset each.")
]
CauseOption = Annotated[str, typer.Option(help="All open letters with this cause as well.")]
TOPIC = "seckill.orders.v1.dlq"


@app.command("list")
def list_letters(
    settled: Annotated[bool, typer.Option("--all", help="Settled ones, too.")] = False,
    bootstrap: BootstrapOption = "",
    topic: TopicOption = TOPIC,
) -> None:
    """List letters that nobody has settled yet, oldest first."""
    letters = _read(_brokers(bootstrap), topic)
    shown = [letter for letter in letters if settled or letter.settled is None]
    columns = ("letter", "written", "cause", "order", "sku", "units", "state", "error")
    table = Table(*columns, box=None)
    for letter in shown:
        table.add_row(*map(escape, _cells(letter)))
    console.print(table)
    console.print(f"{len(shown)} letters, {len(letters) - len(shown)} settled ones not shown")


def _cells(letter: Letter) -> tuple[str, ...]:
    units = " ".join(filter(None, (letter.header("quantity"), letter.header("units"))))
    return (
        str(letter.position),
        letter.header("dead_letter_time") or "-",
        letter.header("error_cause") or letter.header("ce_type"),
        letter.header("order_no") or "-",
        letter.header("sku") or "-",
        units or "-",
        letter.settled.action if letter.settled else "open",
        letter.header("error"),
    )


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="Which letter, partition:offset.")],
    bootstrap: BootstrapOption = "",
    topic: TopicOption = TOPIC,
) -> None:
    """Show everything about one letter."""
    (found,) = _pick(_read(_brokers(bootstrap), topic), [letter], "")
    table = Table("", "", box=None, show_header=False)
    for name, value in sorted(found.headers.items()):
        table.add_row(name, escape(value))
    message = found.value or b""
    table.add_row("message", f"{len(message)} bytes: {message[:VALUE_SHOWN_MAX].hex()}")
    if found.settled is not None:
        note = f"{found.settled.action} at {found.settled.at}: {found.settled.note}"
        table.add_row("settled", escape(note))
    console.print(table)


@app.command()
def redrive(
    letters: PositionsArgument = None,
    cause: CauseOption = "",
    bootstrap: BootstrapOption = "",
    topic: TopicOption = TOPIC,
) -> None:
    """Put letters back on the topic they came from, once their cause is healed."""

    async def one(box: LetterBox, letter: Letter) -> None:
        await box.redrive(letter)

    _settle(one, letters, cause, bootstrap, topic)


@app.command()
def drop(
    note: Annotated[str, typer.Option(help="Why nothing is to be done about them.")],
    letters: PositionsArgument = None,
    cause: CauseOption = "",
    bootstrap: BootstrapOption = "",
    topic: TopicOption = TOPIC,
) -> None:
    """Lay letters aside, with a reason. Units that they hold stay held."""

    async def one(box: LetterBox, letter: Letter) -> None:
        await box.drop(letter, note=note)

    _settle(one, letters, cause, bootstrap, topic)


def _settle(
    act: Callable[[LetterBox, Letter], Awaitable[None]],
    positions: list[str] | None,
    cause: str,
    bootstrap: str,
    topic: str,
) -> None:
    brokers = _brokers(bootstrap)
    chosen = _pick(_read(brokers, topic), positions or [], cause)

    async def work() -> int:
        refused = 0
        async with open_writer(brokers, timeout_s=KAFKA_TIMEOUT_S) as writer:
            box = LetterBox(writer, topic, SystemClock())
            for letter in chosen:
                try:
                    await act(box, letter)
                except LetterRefused as error:
                    refused += 1
                    sys.stderr.write(f"error: {error}\n")
        return refused

    try:
        refused = asyncio.run(work())
    except DependencyUnavailable as error:
        _fail(str(error))
    console.print(f"{len(chosen) - refused} letters settled")
    if refused:
        sys.exit(1)


def _pick(letters: list[Letter], positions: list[str], cause: str) -> list[Letter]:
    """The letters named, and the open ones with the cause; fails where a named one is missing."""
    try:
        wanted = {Position.parse(text) for text in positions}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not wanted and not cause:
        raise typer.BadParameter("name letters, or a --cause")
    for position in sorted(wanted - {letter.position for letter in letters}):
        _fail(f"there is no letter {position}")
    return [
        letter
        for letter in letters
        if letter.position in wanted
        or (cause and letter.settled is None and letter.header("error_cause") == cause)
    ]


def _read(brokers: str, topic: str) -> list[Letter]:
    try:
        return asyncio.run(read_letters(brokers, topic, timeout_s=KAFKA_TIMEOUT_S))
    except DependencyUnavailable as error:
        _fail(str(error))


def _brokers(given: str) -> str:
    state = local_state()
    brokers = given or (state.stores.kafka_bootstrap if state else "")
    if not brokers:
        raise typer.BadParameter("no local stack runs: give --bootstrap or SECKILL_KAFKA_BOOTSTRAP")
    return brokers


def _fail(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(1)
