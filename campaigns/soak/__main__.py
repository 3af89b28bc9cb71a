"""`python -m campaigns.soak`: a campaign of faults against the whole mesh.

Exits with 0 if every invariant held, with 1 if one did not, with 2 if the campaign could not be
run.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from campaigns.sabotage.registry import find
from campaigns.soak import report
from campaigns.soak.campaign import Result, Tell, run_campaign
from campaigns.soak.plan import Plan, draw
from campaigns.soak.stores import RedisKind, linked_stores
from devstack import StackError

EXIT_NOT_DONE = 2
MINUTES_MAX = 60
OUTPUT = Path(".seckill/soak")
console = Console()


def main(
    seed: Annotated[int, typer.Option(help="Decides everything that is decided.")] = 1,
    minutes: Annotated[
        float, typer.Option(min=0.05, max=MINUTES_MAX, help="How long the faults go on.")
    ] = 2.0,
    redis: Annotated[
        RedisKind, typer.Option(help="A cluster: each fault of Redis hits one master of it.")
    ] = RedisKind.SINGLE,
    plant: Annotated[str, typer.Option(help="A bug to plant, see campaigns/sabotage.")] = "",
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = OUTPUT,
    dry_run: Annotated[bool, typer.Option(help="Only print the plan.")] = False,
) -> None:
    """Run one campaign, and write SEED.json; keep the logs if an invariant was violated."""
    if plant:
        find(plant)
    plan = draw(seed, seconds=60 * minutes)
    report.show_schedule(console, plan)
    console.print(f"plan {plan.digest}")
    if dry_run:
        return
    kind = RedisKind.CLUSTER.value if redis is RedisKind.CLUSTER else ""
    name = "-".join(filter(None, (str(seed), kind, plant)))
    try:
        result = carry_out(plan, redis=redis, bug=plant, logs=output / name)
    except (StackError, OSError) as error:
        console.print(f"[bold red]not run:[/] {error!r}")
        sys.exit(EXIT_NOT_DONE)
    report.show(console, result)
    report.write(output / f"{name}.json", report.summarize(result, redis=redis.value))
    console.print(f"written to {output / name}.json")
    sys.exit(1 if result.violations else 0)


def carry_out(plan: Plan, *, redis: RedisKind, bug: str, logs: Path) -> Result:
    """Run a campaign in a temporary directory; keep its logs in `logs` unless all was well.

    Raises:
        StackError, OSError: it could not be run.
    """
    # SIGTERM ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    directory = Path(tempfile.mkdtemp(prefix="seckill-soak-"))
    clean = False
    try:
        with console.status("") as status:
            result = asyncio.run(_carry_out(plan, directory, status.update, redis=redis, bug=bug))
        clean = not result.violations
    finally:
        shutil.rmtree(logs, ignore_errors=True)
        if not clean:
            _keep_logs(directory, logs)
        shutil.rmtree(directory, ignore_errors=True)
    return result


async def _carry_out(
    plan: Plan, directory: Path, tell: Tell, *, redis: RedisKind, bug: str
) -> Result:
    tell("starting the stores")
    async with linked_stores(directory / "stores", kind=redis) as stores:
        return await run_campaign(
            plan, stores, name="soak", directory=directory / "services", tell=tell, bug=bug
        )


def _keep_logs(directory: Path, logs: Path) -> None:
    for path in directory.rglob("*.log"):
        kept = logs / path.relative_to(directory)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)


if __name__ == "__main__":
    typer.run(main)
