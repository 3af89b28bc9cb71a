"""Looks that may be a little old: answered by replicas as long as they are known to be recent.

docs/adr/0045 says what is promised.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import redis.asyncio
import structlog
from prometheus_client import Counter, Histogram
from redis.exceptions import RedisError

from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.redis_client import Command
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_pool import Pool, address_options, pool_options
from seckill.runtime.redis_shard import LIST_KEPT_S, Shard
from seckill.runtime.redis_slots import slot_of_command, tag_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

# A shard's name: "host:port" of its primary in a cluster; a single Redis has none.
SINGLE = ""
# A task that has not ended so long after it was cancelled is cancelled again.
END_AGAIN_S = 1.0
REDIS_READS_TOTAL = Counter(
    "seckill_redis_reads_total",
    "Pipelines of looks that may be a little old, by which server answered.",
    ["server"],
)
# An alert compares them.
READ_BY_PRIMARY, READ_BY_REPLICA = map(REDIS_READS_TOTAL.labels, ("primary", "replica"))
REDIS_READ_AGE_SECONDS = Histogram(
    "seckill_redis_read_age_seconds",
    "Greatest possible age of what a replica has answered.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)
log = structlog.get_logger()


class Recent(NamedTuple):
    """What replicas have answered.

    Attributes:
        replies: raw, in order; None if nothing is there, or no replica could be asked: only the
            primary can tell.
        age_s: greatest possible age of those that are not None.
    """

    replies: list[Any]
    age_s: float


class PrimaryReads:
    """Asks no replica, so that callers ask the primary."""

    async def read(self, commands: Sequence[Command]) -> Recent:
        """Return nothing."""
        return Recent([None] * len(commands), 0.0)

    async def values(self, keys: Sequence[str]) -> Recent:
        """Return nothing."""
        return Recent([None] * len(keys), 0.0)

    async def confirm(self, keys: Iterable[str]) -> None:
        """Return at once: the primary has what was written."""


class ReplicaReads(PrimaryReads):
    """Asks replicas, and knows how old their answers can be at most."""

    def __init__(self, client: "Redis", settings: ReadSettings) -> None:
        """Describe it; before `run` no replica is asked.

        Args:
            client: of `open_redis`, with the same settings.
        """
        self._client = client
        self._settings = settings
        self._oldest_s = settings.redis_read_staleness_ms / 1000
        # With the task that follows each one's replicas.
        self._shards: dict[str, tuple[Shard, asyncio.Task[None]]] = {}

    async def read(self, commands: Sequence[Command]) -> Recent:
        """Return what replicas answer to commands of one slot each, a pipeline for each replica.

        It never fails.
        """
        replies: list[Any] = [None] * len(commands)
        groups: dict[str, list[int]] = defaultdict(list)
        for index, command in enumerate(commands):
            groups[self._name_of(command)].append(index)
        ages_s = await asyncio.gather(
            *(
                self._read_group(name, indexes, commands, replies)
                for name, indexes in groups.items()
            )
        )
        return Recent(replies, max(ages_s, default=0.0))

    async def values(self, keys: Sequence[str]) -> Recent:
        """Return the values of keys in any slots, as `read` does."""
        if isinstance(self._client, ClusterRedis):
            return await self.read([("GET", key) for key in keys])
        (found,), age_s = await self.read([("MGET", *keys)])
        return Recent(found or [None] * len(keys), age_s)

    async def confirm(self, keys: Iterable[str]) -> None:
        """Return once no reply of a replica, in any process, lacks what these keys are now.

        That is once all replicas have it, or those that have not are too old to be read. So a buyer
        who has been told of a change is not shown what was before. It never fails.
        """
        written_s = time.monotonic()
        names = {self._name_of(("GET", key)) for key in keys}
        await asyncio.gather(*(self._confirm_in(name, written_s) for name in names))

    async def run(self) -> None:
        """Follow which replicas there are, and how recent, until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(LIST_KEPT_S):
                        await self.refresh()
                except Exception as error:  # noqa: BLE001 - without this task no replica is read
                    log.warning("redis replicas not listed", error=repr(error))
                await asyncio.sleep(LIST_KEPT_S / 3)
        finally:
            await self._forget(self._shards.keys(), is_end=True)

    async def refresh(self) -> None:
        """Ask which replicas there are.

        Raises:
            RedisError, OSError, TimeoutError, RuntimeError: the primary does not tell.
        """
        if isinstance(self._client, ClusterRedis):
            await self._refresh_cluster(self._client)
            return
        shard = await self._shard(SINGLE, self._client)
        asked_s = time.monotonic()
        named = self._settings.replica_addresses()
        found = named or await _listed_by(self._client)
        await _close(shard.note_listed(found, self._connect, asked_s=asked_s, is_final=bool(named)))

    async def _refresh_cluster(self, cluster: ClusterRedis) -> None:
        slots = cluster.slots
        await slots.known()
        # So that what is known is asked for again before the next time.
        slots.suspect()
        primaries = slots.primaries()
        for name, (client, slot) in primaries.items():
            shard = await self._shard(name, client, tag=f"{{{tag_of(slot)}}}")
            await _close(shard.note_listed(slots.replicas(name), slots.node, asked_s=slots.asked_s))
        await self._forget(self._shards.keys() - primaries.keys())

    async def _shard(self, name: str, primary: "Redis", *, tag: str = "") -> Shard:
        known = self._shards.get(name)
        if known is not None and known[0].fits(primary, tag) and not known[1].done():
            return known[0]
        if known is not None:
            await self._forget([name])
        shard = Shard(primary, tag=tag, in_cluster=name != SINGLE, oldest_s=self._oldest_s)
        self._shards[name] = shard, asyncio.create_task(shard.run(), name="redis beats")
        return shard

    async def _forget(self, names: Iterable[str], *, is_end: bool = False) -> None:
        for name in list(names):
            shard, task = self._shards.pop(name)
            await _end(task, again_s=END_AGAIN_S)
            await _close(shard.forget(), is_end=is_end)

    def _connect(self, host: str, port: int) -> "Redis":
        options = address_options(self._settings, self._settings.redis_addresses()[0])
        options |= {"host": host, "port": port}
        pool = Pool(**options, **pool_options(self._settings))
        return redis.asyncio.Redis.from_pool(pool)

    def _name_of(self, command: Command) -> str:
        if not isinstance(self._client, ClusterRedis):
            return SINGLE
        slot = slot_of_command(command)
        return (slot is not None and self._client.slots.address(slot)) or SINGLE

    async def _read_group(
        self, name: str, indexes: Sequence[int], commands: Sequence[Command], replies: list[Any]
    ) -> float:
        shard, _ = self._shards.get(name, (None, None))
        replica = shard.next_replica() if shard else None
        if shard is None or replica is None:
            READ_BY_PRIMARY.inc()
            return 0.0
        found, age_s = await shard.ask(replica, [commands[index] for index in indexes])
        if math.isinf(age_s):
            READ_BY_PRIMARY.inc()
            return 0.0
        READ_BY_REPLICA.inc()
        REDIS_READ_AGE_SECONDS.observe(age_s)
        for index, reply in zip(indexes, found, strict=True):
            replies[index] = reply
        return age_s

    async def _confirm_in(self, name: str, written_s: float) -> None:
        known = self._shards.get(name)
        if known is not None:
            await known[0].confirm(written_s)
            return
        # Another process may read its replicas for so long.
        await asyncio.sleep(self._oldest_s - (time.monotonic() - written_s))


async def _listed_by(client: "Redis") -> list[tuple[str, int]]:
    """Return host and port of each replica that a primary has; RedisError if it is none."""
    untyped: Any = client
    role, *facts = await untyped.execute_command("ROLE")
    if role not in (b"master", "master"):
        raise RedisError(f"the address leads to a {role!r}")
    return [(host.decode(), int(port)) for host, port, _ in facts[1]]


async def _end(task: "asyncio.Task[None]", *, again_s: float) -> None:
    """Cancel a task until it has ended: a client that is being connected may swallow it once."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_s)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("reads from replicas ended", error=repr(error))


async def _close(clients: Iterable["Redis"], *, is_end: bool = False) -> None:
    for client in clients:
        # Until the end, those of a cluster may have become primaries: idle ones connect again.
        await client.connection_pool.disconnect(inuse_connections=is_end)


@asynccontextmanager
async def open_reads(client: "Redis", settings: ReadSettings) -> AsyncIterator[PrimaryReads]:
    """Open what answers looks, as SECKILL_REDIS_READ_FROM says."""
    if settings.redis_read_from == "primary":
        yield PrimaryReads()
        return
    reads = ReplicaReads(client, settings)
    running = asyncio.create_task(reads.run(), name="redis replicas")
    try:
        yield reads
    finally:
        # It ends the tasks of its shards itself.
        await _end(running, again_s=10 * END_AGAIN_S)
