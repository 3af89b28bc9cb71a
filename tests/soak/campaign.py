"""One campaign: open the sales, let buyers and faults come, heal everything, judge."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.history import Done, History
from tests.soak.arena import Arena, Death, open_arena
from tests.soak.crowd import Crowd
from tests.soak.damage import Damage
from tests.soak.injector import Injected, Injector
from tests.soak.operators import Mended, Operators
from tests.soak.plan import Plan
from tests.soak.stores import LinkedStores
from tests.soak.verdict import CONVERGE_S, Judge

# Buyers who are still busy so long after the last fault are sent home.
LEAVE_S = 15.0
Tell = Callable[[str], None]


@dataclass
class Result:
    """What a campaign was like.

    Attributes:
        injected: faults as they were.
        attempts: presses by outcome or status.
        calls: what became of all other calls.
        states: orders by state.
        deaths: stages that ended without anybody having meant it.
        mended: what operators rebuilt and reconciled.
        looks, missed: how often the database was looked at during the faults, and was away.
        converged_s: how long it took after the last fault.
        violations: what is wrong, in sentences that begin with the invariant's letter.
        versions: what the stores say they are.
    """

    plan: Plan
    bug: str
    injected: list[Injected] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    deaths: list[Death] = field(default_factory=list)
    mended: list[Mended] = field(default_factory=list)
    looks: int = 0
    missed: int = 0
    converged_s: float = 0.0
    violations: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


async def run_campaign(
    plan: Plan,
    stores: LinkedStores,
    *,
    name: str,
    directory: Path,
    tell: Tell,
    bug: str = "",
    converge_s: float = CONVERGE_S,
) -> Result:
    """Run a campaign to its verdict.

    Args:
        plan: what to do.
        stores: where; what was in Redis before is gone afterwards.
        name: names its database and topics.
        directory: for logs.
        tell: told in a word where it stands.
        bug: planted in all stages.
        converge_s: how long after the last fault everything must be settled.

    Raises:
        StackError: stages could not be started.
    """
    result = Result(plan, bug)
    tell("starting the stages")
    settings = {"gateway_front": plan.front}
    async with open_arena(
        stores, name=name, directory=directory, settings=settings, bug=bug
    ) as arena:
        await arena.start()
        result.versions = stores.versions
        histories = {
            f"soak-{plan.seed}-{sale.name}": History(done=Done(rejecting=False))
            for sale in plan.sales
        }
        await _play(plan, arena, histories, result, tell, converge_s=converge_s)
    return result


async def _play(
    plan: Plan,
    arena: Arena,
    histories: dict[str, History],
    result: Result,
    tell: Tell,
    *,
    converge_s: float,
) -> None:
    damage = Damage(arena, histories, rng=random.Random(f"damage {plan.seed}"))
    operators = Operators(arena, histories, damage)
    crowd = Crowd(arena, histories, plan.buyers)
    injector = Injector(arena, damage)
    windows_s = {sku: sale.window_s for sku, sale in zip(histories, plan.sales, strict=True)}
    judge = Judge(arena, histories, windows_s)
    await operators.open_sales(plan.sales)
    arena.began_s = time.monotonic()
    try:
        async with _beside(judge.watch()), _beside(arena.supervise()):
            coming = asyncio.create_task(crowd.run())
            tell("faults and buyers")
            async with _beside(operators.mend() if plan.rebuilds else asyncio.sleep(0)):
                await asyncio.gather(injector.run(plan.faults), operators.run(plan))
                await asyncio.sleep(max(0.0, plan.seconds - arena.now_s))
                tell("healing")
                healed_s = time.monotonic()
                await arena.heal()
                await _leave(coming)
            result.violations += [f"V: {text}" for text in await arena.all_ready()]
            tell("settling")
            damage.close_for_good()
            if plan.reconciles:
                problems = await operators.finish(deadline_s=healed_s + converge_s)
                result.violations += [f"V: {text}" for text in problems]
            found = await judge.settle(deadline_s=healed_s + converge_s)
            result.converged_s = time.monotonic() - healed_s
            if not found and plan.reconciles:
                for sku in histories:
                    found += [f"C: {text}" for text in await operators.compare(sku)]
            result.violations += found
    finally:
        _collect(result, arena, histories, crowd, operators)
        result.injected = injector.injected
        result.states = judge.states
        result.looks, result.missed = judge.looks.done, judge.looks.missed
        result.violations += [
            f"{text}, {at_s:.1f} s after the begin" for text, at_s in judge.momentary.items()
        ]


def _collect(
    result: Result,
    arena: Arena,
    histories: dict[str, History],
    crowd: Crowd,
    operators: Operators,
) -> None:
    for history in histories.values():
        for attempt in history.attempts:
            result.attempts[attempt.name] += 1
    result.calls = crowd.answers + operators.answers
    result.deaths = arena.deaths
    result.mended = operators.mended
    result.violations += [f"E: {text}" for text in crowd.defects + operators.defects]
    for death in arena.deaths:
        result.violations.append(f"E: {death.replica} died by itself: {death.why}")


async def _leave(coming: "asyncio.Task[None]") -> None:
    """Wait for the buyers who are still there, and send home those who are too busy."""
    await asyncio.wait([coming], timeout=LEAVE_S)
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    if not coming.cancelled() and (error := coming.exception()) is not None:
        raise error


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` until the context ends; what it raises is raised then."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended
