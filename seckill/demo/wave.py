"""The crowd's arrival, spread over processes: one Python client is slower than the mesh.

Each worker plays a share of the buyers with connections of its own and brings their notes back.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import uvloop

from seckill.demo.crowd import Crowd, connect
from seckill.demo.scenario import Answer, Buyer, Scenario, Tally
from seckill.v1 import sale_pb2

WORKERS_MAX = 4
# A worker imports and connects within this; then all begin together.
HEAD_START_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker plays.

    Attributes:
        begins_s: monotonic time at which the sale's crowd begins to arrive; all processes of a
            machine share that clock.
    """

    gateway: str
    scenario: Scenario
    sku: str
    price: bytes
    buyers: Sequence[Buyer]
    begins_s: float
    worker: int


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What one worker brings back."""

    buyers: Sequence[Buyer]
    tally: Tally
    seconds: float


class LiveCounts:
    """Attempts by answer, counted by the workers and read by the display."""

    def __init__(self, workers: int) -> None:
        self.raw = multiprocessing.get_context("spawn").RawArray("q", workers * len(Answer))

    def by_answer(self) -> dict[Answer, int]:
        """Sums over the workers."""
        return {answer: sum(self.raw[place :: len(Answer)]) for place, answer in enumerate(Answer)}


class _Mirror(Tally):
    """A tally that is also written where the display reads."""

    def __init__(self, raw: MutableSequence[int], worker: int) -> None:
        super().__init__()
        self._raw = raw
        self._place = {answer: worker * len(Answer) + at for at, answer in enumerate(Answer)}

    def note(self, answer: Answer, latency_s: float) -> None:
        super().note(answer, latency_s)
        self._raw[self._place[answer]] += 1


_counts: "MutableSequence[int] | None" = None


def _prepare(raw: MutableSequence[int]) -> None:
    global _counts  # noqa: PLW0603 - how a pool hands shared memory to its workers
    _counts = raw


def _play(share: Share) -> Notes:
    assert _counts is not None  # noqa: S101 - set by the pool's initializer
    return uvloop.run(_arrive(share, _Mirror(_counts, share.worker)))


async def _arrive(share: Share, tally: Tally) -> Notes:
    async with connect(share.gateway) as stubs:
        crowd = Crowd(
            stubs,
            scenario=share.scenario,
            sku=share.sku,
            price=sale_pb2.Money.FromString(share.price),
            buyers=share.buyers,
            tally=tally,
        )
        await asyncio.sleep(max(0.0, share.begins_s - time.monotonic()))
        seconds = await crowd.arrive()
    plain = Tally(
        attempts=tally.attempts,
        by_answer=tally.by_answer,
        errors=tally.errors,
        latencies_s=tally.latencies_s,
        paid=tally.paid,
    )
    return Notes(buyers=share.buyers, tally=plain, seconds=seconds)


def worker_count() -> int:
    """As many as there are processors, within reason."""
    return max(1, min(WORKERS_MAX, os.cpu_count() or 1))


async def arrive(
    *,
    gateway: str,
    scenario: Scenario,
    sku: str,
    price: sale_pb2.Money,
    buyers: Sequence[Buyer],
    live: LiveCounts,
    workers: int,
) -> Notes:
    """Let all buyers arrive; returns everybody's notes and how many seconds it took."""
    begins_s = time.monotonic() + HEAD_START_S
    shares = [
        Share(
            gateway=gateway,
            scenario=scenario,
            sku=sku,
            price=price.SerializeToString(),
            buyers=buyers[worker::workers],
            begins_s=begins_s,
            worker=worker,
        )
        for worker in range(workers)
    ]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(live.raw,),
    ) as pool:
        notes = await asyncio.gather(
            *(loop.run_in_executor(pool, _play, share) for share in shares)
        )
    merged = Tally()
    for note in notes:
        merged.add(note.tally)
    everybody = sorted(
        (buyer for note in notes for buyer in note.buyers), key=lambda buyer: buyer.arrives_s
    )
    return Notes(buyers=everybody, tally=merged, seconds=max(note.seconds for note in notes))
