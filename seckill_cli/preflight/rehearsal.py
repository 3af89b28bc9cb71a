"""The rehearsal: a shadow sale of the expected size, then waves that show what work costs."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from seckill_cli.operators import Metadata
from seckill_cli.preflight.checks import Plan
from seckill_cli.preflight.crowd import RESERVED_NAME, Played, come
from seckill_cli.preflight.identities import Identities
from seckill_cli.preflight.model import Stage
from seckill_cli.preflight.replicas import Replica
from seckill_cli.preflight.shadow_sale import ShadowSales
from seckill_cli.preflight.usage import Meter, Usage, replaced
from seckill_cli.preflight.waves import Costs, Waves, order_cost

# Calls in a wave, and how many waves of each kind.
WAVE_MIN, WAVE_MAX = 1_000, 4_000
ROUNDS = 2
IDLE_S = 1.0
# Until orders are written.
SETTLE_TIMEOUT_S = 60.0
# Buyers whose attempts show whether the gateways have heard that a sale is sold out.
PROBES, PROBE_TRIES = 4, 50

# Stages on the path of an answer, and those behind it.
PATH, BEHIND = ("gateway", "inventory", "redis"), ("order", "rollback")

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What a rehearsal has shown.

    Attributes:
        rate_per_s: buyers a second that were to come.
        played: what came of them.
        orders: reservations of that sale.
        settled_s: seconds from its last answer until all were orders; None if that took too long.
        stages: what work costs each stage in full batches.
        costs: what that is computed from.
        remarks: what a reader must know.
    """

    rate_per_s: float
    played: Played
    orders: int
    settled_s: float | None
    stages: tuple[Stage, ...]
    costs: Costs
    remarks: tuple[str, ...] = ()


class Rehearsal:
    """Rehearses one plan in a running mesh."""

    def __init__(
        self,
        plan: Plan,
        *,
        replicas: Sequence[Replica],
        identities: Identities,
        metadata: Metadata,
        say: Say,
    ) -> None:
        """
        Args:
            replicas: of all services.
            identities: of the buyers.
            metadata: the operator's.
            say: told of each step.
        """
        self._plan = plan
        self._replicas = replicas
        self._identities = identities
        self._metadata = metadata
        self._say = say
        self._gateways = [one for one in replicas if one.service == "gateway"]
        self._remarks: list[str] = []

    async def run(self) -> Rehearsed:
        """Rehearse, and clean up; raises AioRpcError, LinkError if the mesh does not answer."""
        async with self._opened() as (shadows, meter):
            leftovers = await shadows.remove_leftovers()
            if leftovers:
                self._remarks.append(f"{leftovers} shadow sales of earlier rehearsals were removed")
            played, orders, settled_s = await self._sell(shadows)
            stages, costs = await self._measure(shadows, meter)
        return Rehearsed(
            rate_per_s=self._plan.rate_per_s,
            played=played,
            orders=orders,
            settled_s=settled_s,
            stages=stages,
            costs=costs,
            remarks=tuple(self._remarks),
        )

    async def measure(self) -> tuple[tuple[Stage, ...], Costs]:
        """Send the waves alone, and clean up; returns what work costs each stage."""
        async with self._opened() as (shadows, meter):
            return await self._measure(shadows, meter)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[ShadowSales, Meter]]:
        async with AsyncExitStack() as stack:
            channels = {
                one: await stack.enter_async_context(one.channel()) for one in self._replicas
            }
            first = {one.service: channel for one, channel in reversed(channels.items())}
            shadows = ShadowSales(first["inventory"], first["order"], self._metadata)
            yield shadows, Meter(list(channels.values()), self._metadata)

    @property
    def _wave_size(self) -> int:
        """Of a wave; a quarter of a file's identities goes into the waves of each kind."""
        size = max(WAVE_MIN, min(WAVE_MAX, self._plan.buyers))
        count = self._identities.count
        return size if count is None else max(1, min(size, count // (4 * ROUNDS)))

    async def _sell(self, shadows: ShadowSales) -> tuple[Played, int, float | None]:
        """Sell a shadow sale to the crowd; what came of it, its orders, when they were written."""
        plan = self._plan
        buyers = plan.buyers
        kept = 2 * ROUNDS * self._wave_size
        count = self._identities.count
        if count is not None and count - kept < buyers:
            buyers = max(1, count - kept)
            self._remarks.append(
                f"there are {count:,} identities: {buyers:,} buyers came, at the same rate"
            )
        seconds = buyers / plan.rate_per_s
        units = max(1, round(plan.units * buyers / plan.buyers))
        self._say(f"{buyers:,} buyers come for {units:,} units within {seconds:g} s")
        async with shadows.open(units=units, buckets=plan.buckets) as sku:
            played = await come(
                self._gateways, self._identities, sku, buyers=buyers, seconds=seconds
            )
            orders = played.outcomes[RESERVED_NAME]
            self._say("their orders are written")
            settled_s = await shadows.settle(sku, orders=orders, timeout_s=SETTLE_TIMEOUT_S)
            self._say("the shadow sale is removed")
        return played, orders, settled_s

    async def _measure(self, shadows: ShadowSales, meter: Meter) -> tuple[tuple[Stage, ...], Costs]:
        """Send waves that reserve, then waves that are refused; return the stages' costs."""
        size = self._wave_size
        self._say(f"{2 * ROUNDS} waves of {size:,} buyers")
        count = self._identities.count
        first = 0 if count is None else count - 2 * ROUNDS * size
        costs = Costs()
        await meter.learn_idle(IDLE_S)
        begin = await meter.read()
        waves = Waves(self._gateways, meter, size=size)
        try:
            await waves.connect()
            async with shadows.open(units=ROUNDS * size, buckets=self._plan.buckets) as sku:
                tokens = self._identities.take(first, 2 * ROUNDS * size, sku)
                for number in range(ROUNDS):
                    outcomes = await waves.buy(tokens[number * size :][:size], sku, costs)
                    before = await meter.read()
                    await shadows.settle(
                        sku,
                        orders=costs.counts["reserve"],
                        timeout_s=SETTLE_TIMEOUT_S,
                    )
                    used_s = meter.used_s(before, await meter.read())
                    order_cost(costs, outcomes[RESERVED_NAME], used_s)
                await waves.until_sold_out(tokens[:PROBES], sku, tries=PROBE_TRIES)
                for number in range(ROUNDS, 2 * ROUNDS):
                    await waves.buy(tokens[number * size :][:size], sku, costs)
                end = await meter.read()
        finally:
            waves.close()
        if changed := replaced(begin, end):
            self._remarks.append(f"processes came or went meanwhile: {', '.join(changed)}")
        return _stages(end, costs), costs


def _stages(usage: Usage, costs: Costs) -> tuple[Stage, ...]:
    """Return the stages by name, in the order of the path."""
    by_name: dict[str, list[Stage]] = {}
    for told in usage.stages.values():
        by_name.setdefault(told.name, []).append(
            Stage(
                name=told.name,
                cost_s=costs.of_stage(told.name),
                cores=told.cores,
                shared_cores=told.shared_cores,
                shared_cores_count=told.shared_cores_count,
            )
        )
    return tuple(
        Stage(
            name=name,
            cost_s=found[0].cost_s,
            behind=name in BEHIND,
            cores=min(one.cores for one in found),
            processes=len(found),
            shared_cores=found[0].shared_cores,
            shared_cores_count=found[0].shared_cores_count,
        )
        for name in (*PATH, *BEHIND)
        if (found := by_name.get(name))
    )
