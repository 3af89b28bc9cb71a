"""Faults that change what the stores hold, and what of that must be excused afterwards."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from campaigns.soak.arena import Arena
from campaigns.soak.faults import FaultPlan
from campaigns.soak.redis_servers import client_of
from inventory_svc.keys import outbox_key, stock_key, users_key
from seckill.runtime.delay import delay_key
from tests.kits.faults.history import History
from tests.kits.faults.kafka_logs import cut_logs

# A line of an outbox entry as reserve.lua writes it: number, quantity, request, user. A hold has
# the first three.
_ENTRY = re.compile(rb"\n([0-7][0-9A-HJKMNP-TV-Z]{25}) \d+ [!-~]+ [!-~]+")
_POISON = b"\xff this is no order"
# Field 1 of a reservation event.
_EVENT = re.compile(rb"\x0a\x1a([0-7][0-9A-HJKMNP-TV-Z]{25})")
TRIM_EVERY_S = 0.02
# Reads streams and removes everything, in one step: of a cluster's master, too, where the keys of a
# transaction must have one slot.
_EMPTY = """
local found = {}
for n = 1, #ARGV do
  found[n] = redis.call('XRANGE', ARGV[n], '-', '+')
end
redis.call('FLUSHALL')
return found
"""
# Keys of a bucket.
_KINDS = ("sale", "stock", "users", "outbox", "backlog", "transfers")


class Damage:
    """Damages stores, and notes what was lost, so that the checker excuses exactly that.

    Attributes:
        closed_s: sale → Unix time at which Redis lost it, until an operator starts to rebuild it.
        rebuilding: sales that are being rebuilt: they may be loaded at any moment.
    """

    def __init__(
        self,
        arena: Arena,
        histories: Mapping[str, History],
        tags: Mapping[str, Sequence[str]],
        *,
        rng: random.Random,
    ) -> None:
        """
        Args:
            arena: what is damaged.
            histories: by sku, in the order of the plan's sales.
            tags: sku → hash tags of its buckets.
            rng: picks victims.
        """
        self._arena = arena
        self._histories = histories
        self._tags = tags
        self._skus = list(histories)
        self._rng = rng
        self.closed_s: dict[str, float] = {}
        self.rebuilding: set[str] = set()
        # Reservations that have lost their way to the database: until they are sent again, only
        # their holds know of them.
        self._underway: set[str] = set()
        self._entries_poisoned = False

    def kinds(self) -> dict[str, Callable[[FaultPlan], Awaitable[str]]]:
        """Return the method of each kind of damage."""
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
            "cut broker log": self._cut_broker_log,
            "trim outbox": self._trim_outbox,
        }

    def _sku(self, plan: FaultPlan) -> str:
        return self._skus[int(plan.target.removeprefix("sale "))]

    def _tag(self, plan: FaultPlan) -> str:
        """Return the hash tag of the bucket that a fault is about."""
        tags = self._tags[self._sku(plan)]
        return tags[int(1_000 * plan.at_s) % len(tags)]

    @property
    def _redis(self) -> Any:
        return self._arena.reader.redis

    async def _delete_delay_set(self, _plan: FaultPlan) -> str:
        keys = await self._redis.delete(delay_key())
        self._undelay()
        return f"{keys} keys"

    def _undelay(self) -> None:
        for history in self._histories.values():
            history.tampering.undelayed_s = time.time()

    async def _repeat_records(self, plan: FaultPlan) -> str:
        """Send the last reservation events to Kafka again, as a relay may."""
        records = (await self._arena.reader.messages())[-int(plan.detail) :]
        async with self._producer() as producer:
            for record in records:
                await producer.send_and_wait(
                    self._arena.topics.orders, record.value, key=record.key
                )
                if record.value == _POISON:
                    self._poisoned()
        return f"{len(records)} messages"

    async def _poison_record(self, plan: FaultPlan) -> str:
        count = int(plan.detail)
        async with self._producer() as producer:
            for _ in range(count):
                await producer.send_and_wait(self._arena.topics.orders, _POISON, key=b"poison")
                self._poisoned()
        return f"{count} messages"

    async def _poison_entry(self, plan: FaultPlan) -> str:
        await self._redis.xadd(outbox_key(self._tag(plan)), {"o": _POISON})
        self._entries_poisoned = True
        self._poisoned()
        self._confuse()
        return ""

    def _poisoned(self) -> None:
        # The dead letters of all sales are counted together.
        for history in self._histories.values():
            history.tampering.poison += 1

    def _unpoisoned(self, count: int) -> None:
        """Note that so many poisoned entries are gone, unless a relay has just taken them."""
        for history in self._histories.values():
            history.tampering.poison -= count
            history.tampering.poison_gone += count

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers=self._arena.direct.kafka_bootstrap)

    async def _lose_sale(self, plan: FaultPlan) -> str:
        """Lose a sale, or one of its buckets."""
        tag = self._tag(plan)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrange(outbox_key(tag))
        pipeline.delete(*(f"seckill:{kind}:{{{tag}}}" for kind in _KINDS))
        entries, _ = await pipeline.execute()
        return self._lost({self._sku(plan)}, _texts(entries))

    async def _empty_redis(self, plan: FaultPlan) -> str:
        """Empty Redis, or one master of the cluster with its replica."""
        servers = self._arena.stores.redis
        server = await servers.victim(plan)
        keys = {outbox_key(tag): sku for sku, tags in self._tags.items() for tag in tags}
        own = [key for key in keys if await asyncio.to_thread(servers.has, server, key)]
        async with client_of(server) as client:
            found: Any = await client.eval(_EMPTY, 0, *own)
        self._undelay()
        texts = [text for entries in found for _, words in entries for text in words[1::2]]
        return self._lost({keys[key] for key in own}, texts)

    def failed_over(self) -> None:
        """Note that a replica may have followed its master, without what was not confirmed."""
        self._undelay()

    def _lost(self, skus: Collection[str], texts: Sequence[bytes]) -> str:
        """Note that Redis has lost these sales, or buckets of them, with their outboxes' texts."""
        gone = self._taken(texts)
        for sku in skus:
            self._close(sku)
        self._forget(gone)
        return f"{len(gone)} reservations were in the outboxes of {len(skus)} sales"

    def _taken(self, texts: Sequence[bytes]) -> set[str]:
        """Return the orders of outbox entries that are gone, and note their poison."""
        self._unpoisoned(texts.count(_POISON))
        return {number.decode() for text in texts for number in _ENTRY.findall(text)}

    async def _trim_outbox(self, plan: FaultPlan) -> str:
        """Take entries from an outbox again and again, before a relay has read them."""
        key = outbox_key(self._tag(plan))
        deadline_s = time.monotonic() + plan.lasts_s
        gone: set[str] = set()
        while time.monotonic() < deadline_s:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.xrange(key)
            pipeline.xtrim(key, maxlen=0, approximate=False)
            entries, _ = await pipeline.execute()
            gone |= self._taken(_texts(entries))
            await asyncio.sleep(TRIM_EVERY_S)
        self._strand(gone)
        return f"{len(gone)} reservations"

    async def _cut_broker_log(self, plan: FaultPlan) -> str:
        """Kill the broker, and cut off the ends of what it has of the reservation events."""
        kafka = self._arena.stores.kafka
        await asyncio.to_thread(kafka.kill)
        try:
            topic = self._arena.topics.orders
            tail = cut_logs(kafka.directory, topic, share=float(plan.detail))
            await asyncio.sleep(plan.lasts_s)
        finally:
            await asyncio.to_thread(kafka.start)
        gone = {number.decode() for number in _EVENT.findall(tail)}
        self._unpoisoned(tail.count(_POISON))
        self._strand(gone)
        return f"{len(tail)} bytes, {len(gone)} reservations"

    def _strand(self, order_nos: set[str]) -> None:
        """Note that these can come back from their holds alone."""
        self._underway |= order_nos
        if self.closed_s or self.rebuilding:
            self._forget(order_nos)
        self._confuse()

    def _confuse(self) -> None:
        """Note that an entry without a number may be taken for one that has lost its way.

        It is refused then (docs/adr/0013).
        """
        if self._underway and self._entries_poisoned:
            for history in self._histories.values():
                history.tampering.rejecting = True

    def _close(self, sku: str) -> None:
        self._histories[sku].tampering.rejecting = True
        if sku not in self.rebuilding:
            self.closed_s.setdefault(sku, time.time())

    def reopen(self, sku: str) -> None:
        """Note that a sale that was lost until now may sell again at any moment."""
        since_s = self.closed_s.pop(sku, None)
        # Of several buckets those that are not lost go on selling.
        if since_s is not None and len(self._tags[sku]) == 1:
            self._histories[sku].tampering.lost.append((since_s, time.time()))

    def close_for_good(self) -> None:
        """Note that sales without a rebuild were lost until now, and must not have sold."""
        for sku in self._skus:
            self.reopen(sku)

    def _forget(self, order_nos: set[str]) -> None:
        """Note that Redis has lost these, and holds of others that nothing else may know of."""
        for history in self._histories.values():
            history.tampering.forgotten |= order_nos | self._underway

    async def _lose_stock_key(self, plan: FaultPlan) -> str:
        await self._redis.delete(stock_key(self._tag(plan)))
        self._close(self._sku(plan))
        return ""

    async def _lose_holds(self, plan: FaultPlan) -> str:
        """Delete some holds with what they took, as a replica that lagged would not have them.

        Their buyers may buy again, and the database must notice it.
        """
        tag = self._tag(plan)
        key = users_key(tag)
        holds: dict[bytes, bytes] = await self._redis.hgetall(key)
        live = sorted(user for user, hold in holds.items() if not hold.startswith(b"-"))
        victims = self._rng.sample(live, min(len(live), int(plan.detail)))
        self._wrong(self._sku(plan))
        self._forget({holds[user][:26].decode() for user in victims})
        if victims:
            units = sum(int(holds[user].split()[1]) for user in victims)
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hdel(key, *victims)
            pipeline.incrby(stock_key(tag), units)
            await pipeline.execute()
        return f"{len(victims)} holds"

    async def _raise_stock(self, plan: FaultPlan) -> str:
        key = stock_key(self._tag(plan))
        if not await self._redis.exists(key):
            return "not done: the sale is lost"
        self._wrong(self._sku(plan))
        await self._redis.incrby(key, int(plan.detail))
        return f"{plan.detail} units"

    def _wrong(self, sku: str) -> None:
        self._histories[sku].tampering.rejecting = True

    async def _cut_log(self, plan: FaultPlan) -> str:
        """Kill Redis, or a master of the cluster, and cut off what it wrote last.

        It is back before its replica could follow, which then loses the same.
        """
        valkey = await self._arena.stores.redis.victim(plan)
        path = _log_of(valkey.directory)
        size_bytes = path.stat().st_size
        await asyncio.sleep(plan.lasts_s)
        await asyncio.to_thread(valkey.kill)
        try:
            if _log_of(valkey.directory) != path or path.stat().st_size < size_bytes:
                return "not done: Redis had rewritten the log"
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


def _texts(entries: Iterable[Any]) -> list[bytes]:
    """Return the values of all fields of outbox entries."""
    return [text for _, fields in entries for text in fields.values()]


def _log_of(directory: Path) -> Path:
    return max((directory / "appendonlydir").glob("*.incr.aof"))
