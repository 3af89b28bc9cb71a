"""The crowd's arrival, spread over processes: one Python client is slower than the mesh.

Each worker plays a share of the buyers with connections of its own and brings their notes back.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import uvloop

from seckill.runtime.dev_issuer import DevIssuer
from seckill.v1 import sale_pb2
from seckill_cli.demo.crowd import Crowd, connect, development_identity
from seckill_cli.demo.scenario import Notes, Scenario, Tally
from seckill_cli.load.link import LinkTls

WORKERS_MAX = 4
# A worker imports and connects within this; then all start together.
HEAD_START_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker plays.

    Attributes:
        issuer: signs the buyers' identities.
        price: of one unit, a serialized Money.
        start_s: monotonic time at which the crowd starts to arrive; all processes of a machine
            share that clock.
    """

    gateway: str
    tls: LinkTls | None
    issuer: DevIssuer
    scenario: Scenario
    sku: str
    price: bytes
    notes: Sequence[Notes]
    start_s: float


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What one worker, or all of them, bring back."""

    notes: Sequence[Notes]
    tally: Tally
    seconds: float


def _play(share: Share) -> Arrival:
    return uvloop.run(_arrive(share))


async def _arrive(share: Share) -> Arrival:
    tally = Tally()
    async with connect(share.gateway, share.tls) as clients:
        crowd = Crowd(
            clients,
            identity_of=partial(development_identity, share.issuer),
            scenario=share.scenario,
            sku=share.sku,
            price=sale_pb2.Money.FromString(share.price),
            notes=share.notes,
            tally=tally,
        )
        await asyncio.sleep(max(0.0, share.start_s - time.monotonic()))
        seconds = await crowd.arrive()
    return Arrival(notes=share.notes, tally=tally, seconds=seconds)


def worker_count() -> int:
    """Return as many as there are processors, within reason."""
    return max(1, min(WORKERS_MAX, os.cpu_count() or 1))


async def arrive(
    *,
    gateways: Sequence[str],
    tls: LinkTls | None = None,
    issuer: DevIssuer,
    scenario: Scenario,
    sku: str,
    price: sale_pb2.Money,
    notes: Sequence[Notes],
    workers: int,
) -> Arrival:
    """Let all buyers arrive; return their notes and how many seconds it took.

    Args:
        gateways: addresses of replicas; each worker calls one of them, in turn.
    """
    start_s = time.monotonic() + HEAD_START_S
    shares = [
        Share(
            gateway=gateways[worker % len(gateways)],
            tls=tls,
            issuer=issuer,
            scenario=scenario,
            sku=sku,
            price=price.SerializeToString(),
            notes=notes[worker::workers],
            start_s=start_s,
        )
        for worker in range(workers)
    ]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
    ) as pool:
        arrivals = await asyncio.gather(
            *(loop.run_in_executor(pool, _play, share) for share in shares)
        )
    tally = Tally()
    for arrival in arrivals:
        tally.add(arrival.tally)
    together = sorted(
        (buyer for arrival in arrivals for buyer in arrival.notes),
        key=lambda buyer: buyer.arrives_s,
    )
    longest_s = max(arrival.seconds for arrival in arrivals)
    return Arrival(notes=together, tally=tally, seconds=longest_s)
