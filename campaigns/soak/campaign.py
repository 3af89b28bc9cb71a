"""One campaign: open the sales, run buyers and faults, heal everything, judge."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.soak.arena import Arena, Death, open_arena
from campaigns.soak.crowd import Crowd
from campaigns.soak.damage import Damage
from campaigns.soak.injector import Injected, Injector
from campaigns.soak.operators import Mended, Operators
from campaigns.soak.plan import Plan
from campaigns.soak.stores import LinkedStores
from campaigns.soak.verdict import CONVERGE_S, Judge
from seckill.runtime.bucket_tags import tags_of
from tests.kits.faults.history import History, Tampering, result_of

# Buyers who are not done so long after the last fault are cancelled.
LEAVE_S = 15.0
Tell = Callable[[str], None]


@dataclass
class Result:
    """What a campaign was like.

    Attributes:
        injected: faults as they were.
        attempts: attempts by outcome or status.
        calls: results of all other calls, by method and status.
        states: orders by state.
        deaths: services that ended and that no fault had stopped.
        mended: what operators rebuilt.
        looks, missed: how often the database was read during the faults, and could not be read.
        converged_s: how long it took after the last fault.
        violations: what is wrong, in sentences that start with the invariant's letter.
        versions: of the stores, by name.
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
        stores: its stores; what was in Redis before is lost.
        name: of its database and topics.
        directory: for logs.
        tell: called with the name of each phase.
        bug: planted in all services.
        converge_s: how long after the last fault everything must be settled.

    Raises:
        StackError: services could not be started.
    """
    result = Result(plan, bug)
    tell("starting the services")
    settings = {
        "gateway_front": plan.front,
        "rollback_reconcile_repairs": str(plan.reconciles).lower(),
    }
    async with open_arena(
        stores, name=name, directory=directory, settings=settings, bug=bug
    ) as arena:
        await arena.start()
        result.versions = stores.versions
        histories = {
            f"soak-{plan.seed}-{sale.name}": History(tampering=Tampering(rejecting=False))
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
    tags = {
        sku: tags_of(sku, sale.buckets) for sku, sale in zip(histories, plan.sales, strict=True)
    }
    damage = Damage(arena, histories, tags, rng=random.Random(f"damage {plan.seed}"))
    operators = Operators(arena, histories, damage)
    crowd = Crowd(arena, histories, plan.buyers)
    injector = Injector(arena, damage)
    windows_s = {sku: sale.window_s for sku, sale in zip(histories, plan.sales, strict=True)}
    judge = Judge(arena, histories, windows_s)
    await operators.open_sales(plan.sales)
    arena.started_s = time.monotonic()
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
            deadline_s = healed_s + converge_s
            if plan.reconciles:
                await operators.finish(deadline_s=deadline_s)
            found = await judge.settle(deadline_s=deadline_s)
            if not found and plan.reconciles:
                for sku in histories:
                    problems = await operators.until_agreed(sku, deadline_s=deadline_s)
                    found += [f"C: {text}" for text in problems]
            result.converged_s = time.monotonic() - healed_s
            result.violations += found
    finally:
        _collect(result, arena, histories, crowd, operators)
        result.injected = injector.injected
        result.states = judge.states
        result.looks, result.missed = judge.looks.done, judge.looks.missed
        result.violations += [
            f"{text}, {at_s:.1f} s after the start" for text, at_s in judge.momentary.items()
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
            result.attempts[result_of(attempt)] += 1
    result.calls = crowd.answers + operators.answers
    result.deaths = arena.deaths
    result.mended = operators.mended
    result.violations += [f"E: {text}" for text in crowd.defects + operators.defects]
    for death in arena.deaths:
        result.violations.append(f"E: {death.replica} died by itself: {death.why}")


async def _leave(coming: "asyncio.Task[None]") -> None:
    """Wait until the buyers are done, and cancel those who need more than LEAVE_S."""
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
