"""The inventory service: batches of attempts through Redis, and the relay of its outbox."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from simpy import Environment, Event

from seckill_cli.scale.cores import Server
from seckill_cli.scale.costs import INVENTORY, ISSUE, KAFKA, REDIS, RELAY, RESERVE, Costs
from seckill_cli.scale.layout import Limits
from seckill_cli.scale.stock import Stock

Steps = Generator[Event, Any, Any]
# Takes the sales' reservations of one record batch.
Deliver = Callable[[dict[int, int]], None]


class Inventory:
    """One process."""

    def __init__(
        self,
        env: Environment,
        server: Server,
        shards: Sequence[Server],
        kafka: Server,
        stock: Stock,
        costs: Costs,
        limits: Limits,
        *,
        deliver: Deliver,
    ) -> None:
        """`shards`: processes of Redis; a sale is in one of them."""
        self._env = env
        self._server = server
        self._shards = shards
        self._kafka = kafka
        self._stock = stock
        self._costs = costs
        self._limits = limits
        self._deliver = deliver
        self._outbox: dict[int, int] = {}
        self._entered = env.event()
        env.process(self._relay())

    def reserve(self, sale: int, attempts: int) -> Event:
        """Decide attempts; the event's value is how many of them reserve."""
        return self._env.process(self._reserve(sale, attempts))

    def _reserve(self, sale: int, attempts: int) -> Steps:
        half_s = self._costs.of(INVENTORY, RESERVE).of(attempts) / 2
        yield self._server.work(half_s)
        yield self._shards[sale % len(self._shards)].work(
            self._costs.of(REDIS, RESERVE).of(attempts)
        )
        granted = self._stock.reserve(sale, attempts)
        if granted:
            self._outbox[sale] = self._outbox.get(sale, 0) + granted
            if not self._entered.triggered:
                self._entered.succeed()
        yield self._server.work(half_s)
        return granted

    def _relay(self) -> Steps:
        """Pass after pass, with a pause after each in which entries gather."""
        while True:
            if not self._outbox:
                self._entered = self._env.event()
                yield self._entered
            sent = self._next_pass()
            count = sum(sent.values())
            for sale, part in sent.items():
                shard = self._shards[sale % len(self._shards)]
                yield shard.work(self._costs.of(REDIS, RELAY).of(part))
            yield self._server.work(self._costs.of(INVENTORY, RELAY).of(count))
            yield self._kafka.work(self._costs.of(KAFKA, RELAY).of(count))
            for batch in _record_batches(sent, self._limits.record_batch):
                self._deliver(batch)
            yield self._env.timeout(self._limits.relay_linger_s)

    def _next_pass(self) -> dict[int, int]:
        room = self._limits.relay_max
        sent: dict[int, int] = {}
        for sale in list(self._outbox):
            part = min(room, self._outbox[sale])
            room -= part
            if part:
                sent[sale] = part
            self._outbox[sale] -= part
            if not self._outbox[sale]:
                del self._outbox[sale]
        return sent


def _record_batches(sent: dict[int, int], size: int) -> list[dict[int, int]]:
    """Divide a pass into record batches."""
    batches: list[dict[int, int]] = [{}]
    room = size
    for sale, count in sent.items():
        left = count
        while left:
            if not room:
                batches.append({})
                room = size
            part = min(room, left)
            batches[-1][sale] = part
            room -= part
            left -= part
    return batches


class TokenStore:
    """The shared buckets of those who ask for tokens, in Redis."""

    def __init__(self, shards: Sequence[Server], costs: Costs) -> None:
        self._shards = shards
        self._cost = costs.of(REDIS, ISSUE)
        self._turn = 0

    def issue(self, count: int) -> Event:
        """Charge so many callers; they are spread over the shards."""
        self._turn += 1
        return self._shards[self._turn % len(self._shards)].work(self._cost.of(count))
