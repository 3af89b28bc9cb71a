"""Puts a mesh together: the processes of all stages on their cores, each with whom it asks."""

from collections.abc import Generator, Mapping, Sequence
from itertools import cycle
from typing import Any

from simpy import Environment, Event

from seckill_cli.scale.cores import Cores, Server, weight_of
from seckill_cli.scale.costs import (
    EDGE,
    GATEWAY,
    INVENTORY,
    KAFKA,
    LOAD,
    ORDERS,
    POSTGRES,
    REDIS,
    RESERVE,
    STAGES,
    Costs,
)
from seckill_cli.scale.crowd import CHUNK, Answered, Cohort
from seckill_cli.scale.edge import Edge
from seckill_cli.scale.gateway import Gateway
from seckill_cli.scale.inventory import Inventory, TokenStore
from seckill_cli.scale.layout import Layout
from seckill_cli.scale.orders import Consumer, Topic
from seckill_cli.scale.stock import Stock


class Behind:
    """What a gateway asks: an inventory replica after the other, and the store of tokens."""

    def __init__(self, inventories: Sequence[Inventory], tokens: TokenStore, *, first: int) -> None:
        """`first`: which inventory is asked first; each gateway begins with another one."""
        self._next = cycle(inventories)
        for _ in range(first % len(inventories)):
            next(self._next)
        self._tokens = tokens

    def issue(self, count: int) -> Event:
        """See TokenStore."""
        return self._tokens.issue(count)

    def reserve(self, sale: int, attempts: int) -> Event:
        """See Inventory."""
        return next(self._next).reserve(sale, attempts)


class Machines:
    """Starts processes on cores of their own, or on those of a pool."""

    def __init__(self, env: Environment, layout: Layout) -> None:
        self._env = env
        self._layout = layout
        self._pools = {
            stage: (cores, nice)
            for pool in layout.pools
            for cores in [Cores(env, pool.cores)]
            for stage, nice in pool.stages.items()
        }
        self.servers: dict[str, list[Server]] = {}

    def start(self, stage: str, *, unless_named: int = 1) -> list[Server]:
        """Start the processes of a stage; so many if the layout does not say."""
        count = self._layout.replicas.get(stage, unless_named)
        self.servers[stage] = [self._start_one(stage) for _ in range(count)]
        return self.servers[stage]

    def _start_one(self, stage: str) -> Server:
        width = self._layout.widths.get(stage, 1)
        if stage in self._pools:
            cores, nice = self._pools[stage]
            return Server(self._env, cores, width=width, weight=weight_of(nice))
        own = self._layout.cores.get(stage, 1.0)
        return Server(self._env, Cores(self._env, own), width=max(width, int(own)))

    def busy_s(self) -> Mapping[str, float]:
        """Return the seconds of a core that each stage has used so far."""
        return {
            stage: sum(server.busy_s for server in self.servers.get(stage, ())) for stage in STAGES
        }


class Mesh:
    """All stages.

    Attributes:
        machines: their processes.
        stock: what is for sale.
        topic: where reservations become orders.
    """

    def __init__(
        self,
        env: Environment,
        layout: Layout,
        costs: Costs,
        *,
        units: int,
        sales: int,
        granted: float,
        deadline_s: float,
        answered: Answered,
    ) -> None:
        """
        Args:
            units, sales, granted: see Stock.
            deadline_s: of a call.
            answered: takes the answers.
        """
        limits = layout.limits
        self.machines = machines = Machines(env, layout)
        self.stock = Stock(env, sales=sales, units=units, notice_s=limits.notice_s, granted=granted)
        self.topic = Topic(env, limits, sales=sales)
        shards = machines.start(REDIS)
        kafka, postgres = machines.start(KAFKA)[0], machines.start(POSTGRES)[0]
        self.topic.consumers = [
            Consumer(env, server, self.topic, shards, postgres, costs, limits)
            for server in machines.start(ORDERS)
        ]
        inventories = [
            Inventory(
                env, server, shards, kafka, self.stock, costs, limits, deliver=self.topic.deliver
            )
            for server in machines.start(INVENTORY)
        ]
        tokens = TokenStore(shards, costs)
        self.gateways = [
            Gateway(
                env,
                server,
                Behind(inventories, tokens, first=number),
                self.stock,
                costs,
                limits,
                deadline_s=deadline_s,
                answered=answered,
            )
            for number, server in enumerate(machines.start(GATEWAY))
        ]
        edges = [
            Edge(
                env,
                server,
                self.gateways[number % len(self.gateways)],
                self.stock,
                costs,
                answered=answered,
            )
            for number, server in enumerate(machines.start(EDGE, unless_named=0))
        ]
        doors: Sequence[Edge | Gateway] = edges or self.gateways
        self._doors = cycle(doors)
        self._env = env
        self._load = machines.start(LOAD, unless_named=0)
        self._load_cost = costs.of(LOAD, RESERVE)

    def send(self, cohort: Cohort) -> None:
        """Take calls in, after what sending them takes if the generator is on the same machine."""
        if not self._load:
            next(self._doors).take(cohort)
            return
        while cohort.count:
            self._env.process(self._send(cohort.split(min(CHUNK, cohort.count))))

    def _send(self, cohort: Cohort) -> Generator[Event, Any, None]:
        yield self._load[0].work(self._load_cost.of(cohort.count))
        next(self._doors).take(cohort)

    @property
    def batch(self) -> float:
        """Attempts in a batch of a gateway, on the mean."""
        batches = sum(one.batches for one in self.gateways)
        return sum(one.batched for one in self.gateways) / max(1, batches)
