"""Real runs: one or two of each stage on the cores of this machine."""

import asyncio
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bench.cores import LOWEST_NICE, Cores, Meter, cpu_s, pin, usable
from bench.load import Load
from bench.mesh import BEHIND_NICER, Mesh
from bench.quiet import reason
from bench.sample import InvalidSample, Sample
from bench.scale.setups import CONNECTIONS, TOKENS, Setup, Visit
from bench.services import Service
from seckill_cli.scale.costs import (
    GATEWAY,
    INVENTORY,
    LOAD,
    ORDERS,
    REDIS,
)
from tools.install import BIN

REPLICATED = (GATEWAY, INVENTORY, ORDERS)
PATH = (GATEWAY, INVENTORY, REDIS)
# Until all orders of a sale are written.
WRITTEN_TIMEOUT_S = 60.0
LOOK_S = 0.01
IDLE_S = 1.0
WARM_UP = Visit("warm-up", 4_000, 4_000, in_flight=TOKENS)
# A consumer that has just come has no partitions before the group is balanced.
WARM_UPS_MAX = 5
# Histograms of batches: what they are called here, the stage that has them, and their series.
BATCHES = {
    "attempts": (INVENTORY, "seckill_reserve_batch_items"),
    "relayed": (INVENTORY, "seckill_relay_batch_entries"),
    "orders": (ORDERS, "seckill_order_batch_messages"),
}
CONSUMED = "seckill_reservations_consumed_total"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a visit came to.

    Attributes:
        rate_per_s: attempts a second until the last answer.
        written_s: seconds from the first attempt until the last order was written.
        p99_ms: of the answers.
        cpu_s: stage → seconds of CPU until then, without what it uses idle.
        items: what was measured in batches → items in one, on the mean.
        issue_us: stage → microseconds of CPU for a token of a buyer who is seen for the first time.
        unfit: why this is not to be trusted; "" if it is.
    """

    rate_per_s: float
    written_s: float
    p99_ms: float
    cpu_s: Mapping[str, float]
    items: Mapping[str, float]
    issue_us: Mapping[str, float]
    outcomes: Mapping[str, int] = field(default_factory=dict)
    unfit: str = ""


class RealMesh:
    """A mesh with so many of each stage, placed on cores; a context manager that stops it."""

    def __init__(self, mesh: Mesh, setup: Setup, exits: ExitStack) -> None:
        self._mesh = mesh
        self._setup = setup
        self.services: dict[str, list[Service]] = {
            INVENTORY: [mesh.inventory],
            ORDERS: [mesh.order],
        }
        for name in (INVENTORY, ORDERS):
            for _ in range(setup.replicas - 1):
                self.services[name].append(exits.enter_context(mesh.further(name, {})))
        targets = ",".join(one.address for one in self.services[INVENTORY])
        settings = {"SECKILL_INVENTORY_TARGET": f"ipv4:{targets}"}
        self.services[GATEWAY] = [
            exits.enter_context(mesh.gateway(settings)) for _ in range(setup.replicas)
        ]
        self._pids = {
            **{stage: [one.pid for one in some] for stage, some in self.services.items()},
            **mesh.store_pids(),
        }
        self._place()
        cores = Cores.split().others if setup.split else usable()
        self._loads = [
            exits.enter_context(Load(BIN / "bench-load", cores=cores, prefix=f"buyer{number}x"))
            for number in range(setup.replicas)
        ]
        self._minted = 0
        self.idle: dict[str, float] = {}

    def _place(self) -> None:
        """Give each stage its cores."""
        split = Cores.split() if self._setup.split else Cores(usable(), usable())
        for stage, pids in self._pids.items():
            on_path = stage in PATH
            cores = split.servers if on_path else split.others
            nice = 0 if on_path else min(LOWEST_NICE, BEHIND_NICER)
            for pid in pids:
                pin(pid, cores, nice=nice)

    def _cpu_s(self) -> dict[str, float]:
        return {stage: sum(map(cpu_s, pids)) for stage, pids in self._pids.items()}

    def settle_in(self) -> None:
        """Warm up until every consumer has partitions; learn what an idle mesh uses."""
        for _ in range(WARM_UPS_MAX):
            before = [_metric(one, CONSUMED) for one in self.services[ORDERS]]
            self.visit(WARM_UP)
            after = [_metric(one, CONSUMED) for one in self.services[ORDERS]]
            if all(late > early for early, late in zip(before, after, strict=True)):
                break
        else:
            raise InvalidSample("a replica of the order service got no partitions")
        # The lower of two looks: a store may clean up after what it was sent before.
        looks = [self._look_idle() for _ in range(2)]
        self.idle = {stage: min(look[stage] for look in looks) for stage in looks[0]}

    def _look_idle(self) -> dict[str, float]:
        before, start_s = self._cpu_s(), time.monotonic()
        time.sleep(IDLE_S)
        seconds = time.monotonic() - start_s
        return {stage: (used - before[stage]) / seconds for stage, used in self._cpu_s().items()}

    def visit(self, visit: Visit) -> Seen:
        """Let a crowd come, and wait until its orders are written."""
        sku = f"scale-{uuid.uuid4().hex[:12]}"
        self._mesh.create_sale(sku, units=visit.units, starts_s=time.time() - 1)
        parts = len(self._loads)
        each = visit.buyers // parts
        first, self._minted = self._minted, self._minted + each
        for load in self._loads:
            load.mint(self._minted, self._mesh.issuer)
        before = self._cpu_s()
        self._call("issue", sku, first, each, in_flight=TOKENS)
        issue_us = {
            stage: (used - before[stage]) / visit.buyers * 1e6
            for stage, used in self._cpu_s().items()
            if stage in PATH
        }
        meter, batches = Meter(), self._batches()
        with _watch_orders(self._mesh.stores.postgres_dsn, sku, min(visit.units, visit.buyers)) as (
            written_s
        ):
            before, start_s = self._cpu_s(), time.monotonic()
            samples = self._call(
                "purchase",
                sku,
                first,
                each,
                in_flight=visit.in_flight,
                rate_per_s=visit.rate_per_s,
            )
            answered_s = max(sample.seconds for sample in samples)
            generator_s = sum(one.generator * one.seconds for one in samples) * _load_cores(
                self._setup
            )
            ends_s = written_s()
        seconds = ends_s - start_s
        used = {
            stage: max(0.0, now - before[stage] - self.idle.get(stage, 0.0) * seconds)
            for stage, now in self._cpu_s().items()
        }
        outcomes: dict[str, int] = {}
        for sample in samples:
            for name, count in sample.outcomes.items():
                outcomes[name] = outcomes.get(name, 0) + count
        return Seen(
            rate_per_s=sum(outcomes.values()) / answered_s,
            written_s=seconds,
            p99_ms=max(sample.latency_ms.get("p99", 0.0) for sample in samples),
            cpu_s={**used, LOAD: generator_s},
            items=_mean_items(batches, self._batches()),
            issue_us=issue_us,
            outcomes=outcomes,
            unfit=reason(meter.read()),
        )

    def _call(
        self, call: str, sku: str, first: int, each: int, *, in_flight: int, rate_per_s: float = 0.0
    ) -> list[Sample]:
        """Call from all generators at once, each a gateway of its own."""
        parts = len(self._loads)

        def run(number: int) -> Sample:
            more: dict[str, Any] = {}
            if rate_per_s:
                more["rate"] = rate_per_s / parts
            return (
                self._loads[number]
                .run(
                    call,
                    self.services[GATEWAY][number].address,
                    connections=CONNECTIONS // parts,
                    in_flight=in_flight,
                    sku=sku,
                    first=first,
                    buyers=each,
                    total=each,
                    **more,
                )
                .require()
            )

        with ThreadPoolExecutor(parts) as pool:
            return list(pool.map(run, range(parts)))

    def _batches(self) -> dict[str, tuple[float, float]]:
        """Return what was in batches → (items, batches) so far."""
        return {
            name: (
                sum(_metric(one, f"{series}_sum") for one in self.services[stage]),
                sum(_metric(one, f"{series}_count") for one in self.services[stage]),
            )
            for name, (stage, series) in BATCHES.items()
        }


def _load_cores(setup: Setup) -> int:
    """Return how many cores `Sample.generator` is a share of."""
    return len(Cores.split().others if setup.split else usable())


def _mean_items(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    return {
        name: (after[name][0] - items) / max(1.0, after[name][1] - count)
        for name, (items, count) in before.items()
    }


def _metric(service: Service, series: str) -> float:
    with urllib.request.urlopen(service.metrics_url, timeout=10) as answer:  # noqa: S310 - our own
        for line in answer.read().decode().splitlines():
            name, _, value = line.partition(" ")
            if name == series:
                return float(value)
    return 0.0


@contextmanager
def _watch_orders(dsn: str, sku: str, count: int) -> Iterator[Callable[[], float]]:
    """Watch a sale's orders being written; give a function that waits for the last one.

    The function returns when that was, in monotonic seconds; raises InvalidSample if it takes too
    long.
    """
    found: list[float] = []
    stop = threading.Event()

    async def look() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            while not stop.is_set():
                sold = await connection.fetchval("SELECT sold FROM sales WHERE sku = $1", sku)
                if sold is not None and sold >= count:
                    found.append(time.monotonic())
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(look()), name="orders")
    thread.start()

    def wait() -> float:
        thread.join(WRITTEN_TIMEOUT_S)
        if not found:
            raise InvalidSample(f"not all of {count} orders were written")
        return found[0]

    try:
        yield wait
    finally:
        stop.set()
        with suppress(RuntimeError):
            thread.join()
