"""Faults that reach into what the stores hold, and what of it must be excused afterwards."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from seckill.delay import KEY as DELAY_KEY
from tests.faults.history import History
from tests.soak.arena import Arena
from tests.soak.faults import FaultPlan

# An outbox entry as reserve.lua writes it: number, quantity, epoch, milliseconds.
_ENTRY = re.compile(rb"\b([0-7][0-9A-HJKMNP-TV-Z]{25}) \d+ \d+ \d{13} ")
_POISON = b"\xff this is no order"
# Keys of a sale, but for its outbox, which is told apart.
_KINDS = ("sale", "stock", "users", "queue")


class Damage:
    """Damages stores, and notes what was lost so that the checker excuses that, and nothing else.

    Attributes:
        closed_s: sale → Unix time at which Redis lost it, until an operator begins to rebuild it.
        rebuilding: sales that are being loaded anew just now: they may be loaded at any moment.
        damaged: sales of which Redis holds something wrong, until an operator has reconciled them.
    """

    def __init__(
        self, arena: Arena, histories: Mapping[str, History], *, rng: random.Random
    ) -> None:
        """`histories`: by sku, in the order of the plan's sales; `rng`: picks victims."""
        self._arena = arena
        self._histories = histories
        self._skus = list(histories)
        self._rng = rng
        self.closed_s: dict[str, float] = {}
        self.rebuilding: set[str] = set()
        self.damaged: set[str] = set()

    def kinds(self) -> dict[str, Callable[[FaultPlan], Awaitable[str]]]:
        """How each kind of damage is done."""
        return {
            "delete delay set": self._delete_delay_set,
            "repeat records": self._repeat_records,
            "poison record": self._poison_record,
            "poison entry": self._poison_entry,
            "lose sale": self._lose_sale,
            "lose stock key": self._lose_stock_key,
            "lose holds": self._lose_holds,
            "raise stock": self._raise_stock,
            "empty redis": self._empty_redis,
            "cut log": self._cut_log,
        }

    def _sku(self, plan: FaultPlan) -> str:
        return self._skus[int(plan.target.removeprefix("sale "))]

    @property
    def _redis(self) -> Any:
        return self._arena.reader.redis

    async def _delete_delay_set(self, _plan: FaultPlan) -> str:
        keys = await self._redis.delete(DELAY_KEY)
        self._undelay()
        return f"{keys} keys"

    def _undelay(self) -> None:
        for history in self._histories.values():
            history.done.undelayed_s = time.time()

    async def _repeat_records(self, plan: FaultPlan) -> str:
        """Put the last messages of reservations into Kafka once more, as a relay may have."""
        records = (await self._arena.reader.messages())[-int(plan.detail) :]
        async with self._producer() as producer:
            for record in records:
                await producer.send_and_wait(
                    self._arena.topics.orders, record.value, key=record.key
                )
        return f"{len(records)} messages"

    async def _poison_record(self, plan: FaultPlan) -> str:
        count = int(plan.detail)
        async with self._producer() as producer:
            for _ in range(count):
                await producer.send_and_wait(self._arena.topics.orders, _POISON, key=b"poison")
                self._poisoned()
        return f"{count} messages"

    async def _poison_entry(self, plan: FaultPlan) -> str:
        await self._redis.xadd(f"seckill:queue:{{{self._sku(plan)}}}", {"o": _POISON})
        self._poisoned()
        return ""

    def _poisoned(self) -> None:
        # The dead letters of all sales are counted together.
        for history in self._histories.values():
            history.done.poison += 1

    def _unpoisoned(self, count: int) -> None:
        """So many entries are gone, unless a relay has dealt with them just before."""
        for history in self._histories.values():
            history.done.poison -= count
            history.done.poison_gone += count

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers=self._arena.direct.kafka_bootstrap)

    async def _lose_sale(self, plan: FaultPlan) -> str:
        return await self._lose([self._sku(plan)])

    async def _empty_redis(self, _plan: FaultPlan) -> str:
        return await self._lose(self._skus, everything=True)

    async def _lose(self, skus: list[str], *, everything: bool = False) -> str:
        pipeline = self._redis.pipeline(transaction=True)
        for sku in skus:
            pipeline.xrange(f"seckill:queue:{{{sku}}}")
        if everything:
            pipeline.flushall()
        else:
            pipeline.delete(*(f"seckill:{kind}:{{{skus[0]}}}" for kind in _KINDS))
        outboxes = (await pipeline.execute())[: len(skus)]
        if everything:
            self._undelay()
        gone = set()
        for sku, entries in zip(skus, outboxes, strict=True):
            gone |= {fields[b"o"][:26].decode() for _, fields in entries if fields[b"o"] != _POISON}
            self._unpoisoned(sum(fields[b"o"] == _POISON for _, fields in entries))
            self._close(sku)
        self._forget(gone)
        return f"{len(gone)} reservations were in the outbox"

    def _close(self, sku: str) -> None:
        self._histories[sku].done.rejecting = True
        if sku not in self.rebuilding:
            self.closed_s.setdefault(sku, time.time())

    def close_for_good(self) -> None:
        """Sales that nobody has begun to rebuild must not have sold anything to this day."""
        for sku, since_s in self.closed_s.items():
            self._histories[sku].done.lost.append((since_s, time.time()))
        self.closed_s.clear()

    def _forget(self, order_nos: set[str]) -> None:
        for history in self._histories.values():
            history.done.forgotten |= order_nos

    async def _lose_stock_key(self, plan: FaultPlan) -> str:
        sku = self._sku(plan)
        await self._redis.delete(f"seckill:stock:{{{sku}}}")
        self._close(sku)
        return ""

    async def _lose_holds(self, plan: FaultPlan) -> str:
        """Forget some buyers: they may buy again, and the database must see it."""
        sku = self._sku(plan)
        key = f"seckill:users:{{{sku}}}"
        holds: dict[bytes, bytes] = await self._redis.hgetall(key)
        live = sorted(user for user, hold in holds.items() if not hold.startswith(b"-"))
        victims = self._rng.sample(live, min(len(live), int(plan.detail)))
        self._wrong(sku)
        self._forget({holds[user][:26].decode() for user in victims})
        if victims:
            await self._redis.hdel(key, *victims)
        return f"{len(victims)} holds"

    async def _raise_stock(self, plan: FaultPlan) -> str:
        sku = self._sku(plan)
        key = f"seckill:stock:{{{sku}}}"
        if not await self._redis.exists(key):
            return "not done: the sale is lost"
        self._wrong(sku)
        await self._redis.incrby(key, int(plan.detail))
        return f"{plan.detail} units"

    def _wrong(self, sku: str) -> None:
        self._histories[sku].done.rejecting = True
        self.damaged.add(sku)

    async def _cut_log(self, plan: FaultPlan) -> str:
        """Redis dies, and what it wrote last was never on the disk."""
        valkey = self._arena.stores.valkey
        path = _log_of(valkey.directory)
        size_bytes = path.stat().st_size
        await asyncio.sleep(plan.lasts_s)
        await asyncio.to_thread(valkey.kill)
        try:
            if _log_of(valkey.directory) != path or path.stat().st_size < size_bytes:
                return "not done: the log was written anew"
            with path.open("r+b") as log:
                log.seek(size_bytes)
                tail = log.read()
                log.truncate(size_bytes)
            gone = {found.decode() for found in _ENTRY.findall(tail)}
            self._forget(gone)
            self._undelay()
            self._unpoisoned(tail.count(_POISON))
            for sku in self._skus:
                self._wrong(sku)
        finally:
            await asyncio.to_thread(valkey.start)
        return f"{len(tail)} bytes, {len(gone)} reservations"


def _log_of(directory: Path) -> Path:
    return max((directory / "appendonlydir").glob("*.incr.aof"))
