"""`python -m campaigns.soak.check`: is every planted bug caught by the checker, for what it is?

Each bug runs in a short campaign made to provoke it. The same campaign runs without a bug, and the
checker must not find that bug in it. Exits with 1 if a bug was not caught or was found where it
is not, with 2 if a campaign could not be run.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from campaigns.sabotage.registry import find
from campaigns.soak.campaign import run_campaign
from campaigns.soak.plan import Plan
from campaigns.soak.scenarios import PLANTED
from campaigns.soak.stores import LinkedStores, linked_stores
from devstack import StackError

EXIT_NOT_DONE = 2
# What a bug breaks does not heal, so this can be shorter than in a campaign.
CONVERGE_S = 12.0
OUTPUT = Path(".seckill/soak")
console = Console()


@dataclass(frozen=True)
class Caught:
    """A bug, whether the checker caught it, and its sentence, or what it found instead."""

    bug: str
    caught: bool
    sentence: str


def main(
    bugs: Annotated[list[str] | None, typer.Argument(help="Only these; default all.")] = None,
    controls: Annotated[bool, typer.Option(help="Run the campaigns without a bug, too.")] = True,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = OUTPUT,
) -> None:
    """Plant bugs one after the other; exit with 1 unless the checker catches each."""
    chosen = bugs or list(PLANTED)
    for bug in chosen:
        find(bug)
    directory = Path(tempfile.mkdtemp(prefix="seckill-soak-"))
    try:
        found = asyncio.run(_check(chosen, directory, controls=controls))
    except (StackError, OSError) as error:
        console.print(f"[bold red]not run:[/] {error!r}")
        sys.exit(EXIT_NOT_DONE)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    _report(found, output / "check.json")
    sys.exit(0 if all(one.caught for one in found) else 1)


async def _check(bugs: Sequence[str], directory: Path, *, controls: bool) -> list[Caught]:
    found: list[Caught] = []
    console.print("starting the stores")
    async with linked_stores(directory / "stores") as stores:
        for number, bug in enumerate(bugs):
            plan, words = PLANTED[bug]
            violations = await _run(stores, plan, directory / f"{number}", bug=bug)
            sentence = next((text for text in violations if _has(text, words)), "")
            other = "; ".join(violations[:2]) or "nothing"
            found.append(Caught(bug, bool(sentence), sentence or f"found {other}"))
            _tell(found[-1])
        for number, plan in enumerate(_distinct(bugs) if controls else ()):
            violations = await _run(stores, plan, directory / f"control-{number}", bug="")
            expected = [PLANTED[bug][1] for bug in bugs if PLANTED[bug][0] is plan]
            accused = [text for text in violations if any(_has(text, one) for one in expected)]
            name = f"no bug ({plan.sales[0].name})"
            found.append(Caught(name, not accused, accused[0] if accused else "not accused"))
            _tell(found[-1])
    return found


def _has(sentence: str, words: str) -> bool:
    return any(alternative in sentence for alternative in words.split("|"))


def _distinct(bugs: Sequence[str]) -> list[Plan]:
    return list({id(PLANTED[bug][0]): PLANTED[bug][0] for bug in bugs}.values())


async def _run(stores: LinkedStores, plan: Plan, directory: Path, *, bug: str) -> list[str]:
    result = await run_campaign(
        plan,
        stores,
        name=f"check_{directory.name.replace('-', '_')}",
        directory=directory,
        tell=lambda _: None,
        bug=bug,
        converge_s=CONVERGE_S,
    )
    return result.violations


def _tell(one: Caught) -> None:
    mark = "[green]caught[/]" if one.caught else "[bold red]NOT CAUGHT[/]"
    console.print(f"{mark} {one.bug}: {one.sentence}", highlight=False, soft_wrap=True)


def _report(found: Sequence[Caught], path: Path) -> None:
    table = Table("planted bug", "what is wrong then", "caught", title="The checker, checked")
    for one in found:
        says = "" if one.bug.startswith("no bug") else find(one.bug).says
        table.add_row(one.bug, says, one.sentence if one.caught else "[bold red]NO")
    console.print(table)
    written: list[dict[str, Any]] = [
        {"bug": one.bug, "caught": one.caught, "sentence": one.sentence} for one in found
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
