"""`seckill webhook …`: look at webhooks, try dead letters again, or lay them aside."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.markup import escape

from order_svc.database import Row
from order_svc.webhooks.letters import DeliveryRefused, Letter, WebhookBox, open_box
from seckill.cli import display
from seckill.cli.display import table
from seckill.cli.mesh import local_state
from seckill.errors import DependencyUnavailable

app = typer.Typer(
    help="Look at webhooks of order events and settle dead ones.", no_args_is_help=True
)
console = display.console()
T = TypeVar("T")

DsnOption = Annotated[
    str,
    typer.Option(
        envvar="SECKILL_POSTGRES_DSN",
        help="Address of the order database.",
        show_default="the local stack's",
        show_envvar=True,
    ),
]
IdsArgument = Annotated[list[int] | None, typer.Argument(help="Which dead letters, by number.")]
EndpointOption = Annotated[str, typer.Option(help="All dead letters of this endpoint as well.")]


@app.command("list")
def list_letters(
    everything: Annotated[
        bool, typer.Option("--all", help="Those waiting and those dropped, too.")
    ] = False,
    endpoint: Annotated[str, typer.Option(help="Only this endpoint's.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    dsn: DsnOption = "",
) -> None:
    """List dead letters, oldest first."""
    letters = _run(
        dsn,
        lambda box: box.letters(endpoint=endpoint, only_dead=not everything, limit=limit),
    )
    shown = table(("id", "endpoint", "event", "order", "state"), ("attempts", "answer", "error"))
    for letter in letters:
        row = letter.row
        shown.add_row(
            str(letter.id),
            row["endpoint"],
            row["kind"],
            row["order_no"],
            letter.state,
            str(row["attempts"]),
            str(row["answer"] or "-"),
            escape(row["error"] or ""),
        )
    console.print(shown)
    console.print(f"{len(letters)} deliveries")


@app.command()
def show(
    letter: Annotated[int, typer.Argument(help="Which delivery, by number.")], dsn: DsnOption = ""
) -> None:
    """Show everything about one delivery, with the event that it carries."""

    async def find(box: WebhookBox) -> tuple[Letter, str]:
        (found,) = await _pick(box, [letter], "")
        return found, json.dumps(await box.event(found), indent=2)

    found, event = _run(dsn, find)
    facts = table(("",), ("",))
    facts.show_header = False
    for name, value in _facts(found.row, found.state):
        facts.add_row(name, escape(value))
    console.print(facts)
    console.print(escape(event), highlight=False, soft_wrap=True)


def _facts(row: Row, state: str) -> list[tuple[str, str]]:
    facts = [
        ("endpoint", row["endpoint"]),
        ("state", state),
        ("event", f"{row['kind']} at {_moment(row['at'])}"),
        ("attempts", str(row["attempts"])),
    ]
    for name in ("attempted_at", "answer", "error", "dead_at", "dropped_at", "dropped_note"):
        value = row[name]
        if value is not None:
            moment = name.endswith("_at")
            facts.append((name.replace("_", " "), _moment(value) if moment else str(value)))
    if state == "waiting":
        facts.append(("next attempt", _moment(row["due_at"])))
    return facts


@app.command()
def redrive(
    letters: IdsArgument = None, endpoint: EndpointOption = "", dsn: DsnOption = ""
) -> None:
    """Send dead letters again, once their cause is healed."""

    async def one(box: WebhookBox, letter: Letter) -> None:
        await box.redrive(letter)

    _settle(dsn, one, letters, endpoint)


@app.command()
def drop(
    note: Annotated[str, typer.Option(help="Why nothing is to be done about them.")],
    letters: IdsArgument = None,
    endpoint: EndpointOption = "",
    dsn: DsnOption = "",
) -> None:
    """Lay dead letters aside, with a reason."""

    async def one(box: WebhookBox, letter: Letter) -> None:
        await box.drop(letter, note=note)

    _settle(dsn, one, letters, endpoint)


@app.command()
def endpoints(dsn: DsnOption = "") -> None:
    """List endpoints, and what they have yet to be told."""
    shown = table(("endpoint", "state", "waiting", "oldest", "dead"), ("events",))
    for row in _run(dsn, lambda box: box.endpoints()):
        state = "told" if row["named"] else "in nobody's settings"
        shown.add_row(
            row["name"],
            state if row["gone_at"] is None else f"gone since {_moment(row['gone_at'])}",
            str(row["waiting"]),
            f"{row['age_s']:.0f} s" if row["waiting"] else "-",
            str(row["dead"]),
            ", ".join(row["kinds"] or ()),
        )
    console.print(shown)


@app.command()
def resume(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")], dsn: DsnOption = ""
) -> None:
    """Send to an endpoint again that has answered 410 Gone."""
    _run(dsn, lambda box: box.resume(endpoint))
    console.print(f"{endpoint} is told again; redrive what died meanwhile")


def _settle(
    dsn: str,
    act: Callable[[WebhookBox, Letter], Awaitable[None]],
    ids: list[int] | None,
    endpoint: str,
) -> None:
    if not ids and not endpoint:
        raise typer.BadParameter("name dead letters, or an --endpoint")

    async def work(box: WebhookBox) -> tuple[int, int]:
        chosen = await _pick(box, ids or [], endpoint)
        refused = 0
        for letter in chosen:
            try:
                await act(box, letter)
            except DeliveryRefused as error:
                refused += 1
                sys.stderr.write(f"error: {error}\n")
        return len(chosen) - refused, refused

    settled, refused = _run(dsn, work)
    console.print(f"{settled} dead letters settled")
    if refused:
        sys.exit(1)


async def _pick(box: WebhookBox, ids: list[int], endpoint: str) -> list[Letter]:
    """The deliveries named, and the endpoint's dead letters."""
    named = await box.letters(ids=ids) if ids else []
    for number in sorted(set(ids) - {letter.id for letter in named}):
        raise DeliveryRefused(f"there is no delivery {number}")
    others = await box.letters(endpoint=endpoint, only_dead=True) if endpoint else []
    return list({letter.id: letter for letter in (*named, *others)}.values())


def _run(dsn: str, work: Callable[[WebhookBox], Awaitable[T]]) -> T:
    state = local_state()
    address = dsn or (state.stores.postgres_dsn if state else "")
    if not address:
        raise typer.BadParameter("no local stack runs: give --dsn or SECKILL_POSTGRES_DSN")

    async def opened() -> T:
        async with open_box(address) as box:
            return await work(box)

    try:
        return asyncio.run(opened())
    except (DependencyUnavailable, DeliveryRefused) as error:
        _fail(str(error))


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def _fail(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(1)
