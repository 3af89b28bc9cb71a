"""One process of callers of one kind; the CPU of an attacker's is counted."""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle

import uvloop

from bench.bots.callers import Caller, Kind
from bench.bots.pace import Pace
from bench.bots.solving import PERSON_HASHES_PER_S, Solver, slow_solver
from bench.bots.visits import AddressedClient, Visit, hammer, visit
from seckill_cli.load.link import Link

CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process plays.

    Attributes:
        gateway: host:port.
        jwts: of the callers, by user id.
        sku: of the sale.
        pace: its clock.
        callers: all of one kind.
        scale: how many times the hashes of a solution make the whole price.
        hash_s: seconds of CPU that one hash takes an attacker.
        cores: what an attacker's callers in this process solve at the same time.
    """

    gateway: str
    jwts: Mapping[str, str]
    sku: str
    pace: Pace
    callers: Sequence[Caller]
    scale: float
    hash_s: float
    cores: int


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of the callers of one process.

    Attributes:
        visits: one for each.
        cpu_s: seconds of CPU that the process has used for their calls.
    """

    visits: Sequence[Visit]
    cpu_s: float


def warm_up() -> None:
    """Do nothing: a process that has imported all this is ready to play."""


def play(part: Part) -> Played:
    """Let all callers come; return once the last has left."""
    return uvloop.run(_play(part))


async def _play(part: Part) -> Played:
    solver = _solver(part)
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(AddressedClient(part.gateway, solver=solver))
            for _ in range(CONNECTIONS)
        ]
        links = [Link(part.gateway) for _ in range(CONNECTIONS)]
        for link in links:
            opened.callback(link.close)
        client, link_of = cycle(clients), cycle(links)

        def story(caller: Caller) -> Coroutine[None, None, Visit]:
            jwt = part.jwts[caller.user_id]
            if caller.kind is Kind.NAIVE:
                return hammer(next(link_of), caller, jwt, sku=part.sku, pace=part.pace)
            return visit(next(client), caller, jwt, sku=part.sku, pace=part.pace)

        before_s = time.process_time()
        visits = await asyncio.gather(*map(story, part.callers))
        return Played(visits=visits, cpu_s=time.process_time() - before_s)


def _solver(part: Part) -> Solver:
    """Each person has a device; an attacker has a few cores for all identities."""
    if part.callers[0].kind is Kind.PERSON:
        return slow_solver(part.pace, scale=part.scale, hashes_per_s=PERSON_HASHES_PER_S)
    return slow_solver(part.pace, scale=part.scale, hashes_per_s=1 / part.hash_s, cores=part.cores)
