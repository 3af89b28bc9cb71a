"""Consumers: reservations become orders, one transaction at a time for each sale."""

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from simpy import Environment, Event, Resource

from seckill_cli.scale.cores import Server
from seckill_cli.scale.costs import ORDER, ORDERS, POSTGRES, REDIS, Costs
from seckill_cli.scale.layout import Limits

Steps = Generator[Event, Any, Any]
# Of what the order service takes for an order: before the transaction (decoding), in it (arguments
# and rows), after it (projection, delay set, events).
BEFORE, WITHIN, AFTER = 0.25, 0.25, 0.5


class Consumer:
    """One replica of the order service with the partitions that are its own."""

    def __init__(
        self,
        env: Environment,
        server: Server,
        topic: "Topic",
        shards: Sequence[Server],
        postgres: Server,
        costs: Costs,
        limits: Limits,
    ) -> None:
        self._env = env
        self._server = server
        self._topic = topic
        self._shards = shards
        self._postgres = postgres
        self._costs = costs
        self._limits = limits
        self._waiting: deque[tuple[int, int]] = deque()
        self._came = env.event()
        env.process(self._run())

    def take(self, batch: dict[int, int]) -> None:
        """Take a record batch in: sale → reservations."""
        self._waiting.extend(batch.items())
        if not self._came.triggered:
            self._came.succeed()

    def _run(self) -> Steps:
        order_cost = self._costs.of(ORDERS, ORDER)
        while True:
            if not self._waiting:
                self._came = self._env.event()
                yield self._came
            batch = self._next_batch()
            count = sum(batch.values())
            seconds = order_cost.of(count)
            yield self._server.work(seconds * BEFORE)
            yield from self._write(batch, seconds * WITHIN)
            self._topic.written(count)
            for sale, part in batch.items():
                shard = self._shards[sale % len(self._shards)]
                yield shard.work(self._costs.of(REDIS, ORDER).of(part))
            yield self._server.work(seconds * AFTER)

    def _write(self, batch: dict[int, int], own_s: float) -> Steps:
        """Hold the row of each sale from the first statement to the commit."""
        locks = [(self._topic.locks[sale], self._topic.locks[sale].request()) for sale in batch]
        asked_s = self._env.now
        for _, request in locks:
            yield request
        self._topic.waited_s += self._env.now - asked_s
        yield self._server.work(own_s)
        yield self._postgres.work(self._costs.of(POSTGRES, ORDER).of(sum(batch.values())))
        for lock, request in locks:
            lock.release(request)

    def _next_batch(self) -> dict[int, int]:
        room = self._limits.order_batch
        batch: dict[int, int] = {}
        while room and self._waiting:
            sale, count = self._waiting.popleft()
            part = min(room, count)
            batch[sale] = batch.get(sale, 0) + part
            room -= part
            if part < count:
                self._waiting.appendleft((sale, count - part))
        # Locked in one order by all, so that no two wait for each other.
        return dict(sorted(batch.items()))


class Topic:
    """The orders topic: record batches go to one partition after the other.

    Attributes:
        locks: the row of each sale.
        orders: written so far.
        last_s: when the last one was.
        waited_s: that transactions have waited for the row of a sale.
    """

    def __init__(self, env: Environment, limits: Limits, *, sales: int) -> None:
        self.locks = [Resource(env) for _ in range(sales)]
        self.orders = 0
        self.last_s = 0.0
        self.waited_s = 0.0
        self._env = env
        self._partitions = limits.partitions
        self._next = 0
        self.consumers: Sequence[Consumer] = ()

    def deliver(self, batch: dict[int, int]) -> None:
        """Take a record batch in; partitions are divided evenly among the consumers."""
        self._next = (self._next + 1) % self._partitions
        self.consumers[self._next % len(self.consumers)].take(batch)

    def written(self, count: int) -> None:
        """Note orders that are written."""
        self.orders += count
        self.last_s = self._env.now
