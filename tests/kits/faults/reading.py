"""Reads the stores themselves for the checker, and waits until everything has settled."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import redis.asyncio
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, ResponseError

from devstack import Stores
from seckill.runtime.bucket_tags import tags_of
from seckill.runtime.delay import delay_key
from tests.kits.faults.checker import check
from tests.kits.faults.facts import DatabaseFacts, Facts, Hold, OrderRow
from tests.kits.faults.history import History
from tests.kits.stores import Topics

# Time after the last fault within which everything must have settled. campaigns/proof.py, which
# expects that it never does, sets less.
CONVERGE_TIMEOUT_S = float(os.environ.get("SECKILL_TEST_CONVERGE_S", "60"))
INTERVAL_S = 0.1
# These must hold at every moment, also while things are under way.
ALWAYS = frozenset("OU")
# Pooled connections to a store that was killed since are found broken one by one.
RETRIES_MAX = 3


@dataclass(frozen=True)
class KafkaFacts:
    """What Kafka holds of all sales together; see `Facts`."""

    lag: int
    dead_letters: int


class StoreReader:
    """Reads Postgres, Redis and Kafka beside the services."""

    def __init__(
        self,
        *,
        sql: asyncpg.Pool,
        client: "redis.asyncio.Redis",
        bootstrap: str,
        topics: Topics,
        group: str,
    ) -> None:
        self.sql = sql
        self.redis = client
        self._bootstrap = bootstrap
        self._topics = topics
        self._group = group

    async def facts(self, sku: str, *, kafka: KafkaFacts | None = None) -> Facts:
        """Return what the stores hold for this sale now; Postgres is read in one snapshot.

        `kafka`: what was read of Kafka a moment ago, for those who read many sales.
        """
        database = await self.database(sku)
        tags = await self.tags(sku)
        stocks: list[Any] = [await self.redis.get(f"seckill:stock:{{{tag}}}") for tag in tags]
        holds: dict[Any, Any] = {}
        for tag in tags:
            holds |= cast("Any", await self.redis.hgetall(f"seckill:users:{{{tag}}}"))
        delayed: list[Any] = await self.redis.zrange(delay_key(), 0, -1)
        numbers = {row.order_no for row in database.orders}
        backlog = sum([int(await self.redis.xlen(f"seckill:outbox:{{{tag}}}")) for tag in tags])
        unacknowledged = sum([await self._unacknowledged(tag) for tag in tags])
        between = await self._between(tags)
        kafka = kafka or await self.kafka()
        return Facts(
            total=database.total,
            sold=database.sold,
            orders=database.orders,
            ledger=database.ledger,
            owed_payments=database.owed_payments,
            remaining=None if None in stocks else sum(int(one or 0) for one in stocks) + between,
            holds={user.decode(): _hold(text.decode()) for user, text in holds.items()},
            backlog=backlog,
            unacknowledged=unacknowledged,
            delayed=frozenset(number.decode() for number in delayed) & numbers,
            lag=kafka.lag,
            dead_letters=kafka.dead_letters,
        )

    async def database(self, sku: str) -> DatabaseFacts:
        """Return what the database holds for this sale now, read in one snapshot."""
        async with (
            self.sql.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            sale = await connection.fetchrow("SELECT total, sold FROM sales WHERE sku = $1", sku)
            orders = await connection.fetch("SELECT * FROM order_details WHERE sku = $1", sku)
            ledger = await connection.fetch(
                "SELECT coalesce(order_no, ''), kind, quantity FROM stock_ledger"
                " WHERE sku = $1 ORDER BY id",
                sku,
            )
            owed = await connection.fetch(
                "SELECT owed.payment_id FROM payments owed JOIN orders USING (order_no)"
                " WHERE sku = $1 AND state = 'to_refund'",
                sku,
            )
        assert sale is not None, f"{sku} is not registered"
        return DatabaseFacts(
            total=sale["total"],
            sold=sale["sold"],
            orders=tuple(_order(row) for row in orders),
            ledger=tuple((row[0], row[1], row[2]) for row in ledger),
            owed_payments=frozenset(row[0] for row in owed),
        )

    async def tags(self, sku: str) -> tuple[str, ...]:
        """Return the hash tags of the sale's buckets."""
        return tags_of(sku, int(await self.redis.hget("seckill:buckets", sku) or 1))

    async def _between(self, tags: Sequence[str]) -> int:
        """Count the units that have left one bucket and are not in another yet."""
        moved: list[Any] = [
            await self.redis.hgetall(f"seckill:transfers:{{{tag}}}") for tag in tags
        ]
        units = 0
        for lender, borrower in itertools.permutations(range(len(tags)), 2):
            number, lent = map(int, moved[lender].get(f"out:{borrower}".encode(), b"0 0").split())
            taken = int(moved[borrower].get(f"in:{lender}".encode(), 0))
            units += lent if taken < number else 0
        return units

    async def _unacknowledged(self, tag: str) -> int:
        try:
            groups: list[Any] = await self.redis.xinfo_groups(f"seckill:outbox:{{{tag}}}")
        except ResponseError:
            # There is no such stream: Redis has lost it.
            return 0
        return sum(int(group["pending"]) for group in groups)

    async def kafka(self) -> KafkaFacts:
        """Return what is under way in Kafka, and how many dead letters there are."""
        letters = await self.messages(self._topics.dead_letters)
        return KafkaFacts(await self._lag(), len({_identity(letter) for letter in letters}))

    async def _lag(self) -> int:
        committed = await self._committed()
        async with self._client(self._topics.orders) as client:
            ends = await client.end_offsets(client.assignment())
        # A log that was cut to nothing has nothing that could be committed before its end.
        return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())

    async def _committed(self) -> dict[TopicPartition, int]:
        """Return the offset of each partition that the consumer group has committed."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await admin.start()
            async with asyncio.timeout(CONVERGE_TIMEOUT_S):
                while True:
                    try:
                        found = await admin.list_consumer_group_offsets(self._group)
                    except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
                        # A broker that has just come up makes, or reads, the topic of offsets.
                        await asyncio.sleep(INTERVAL_S)
                    else:
                        return {part: max(0, at.offset) for part, at in found.items()}
        finally:
            await admin.close()

    def _client(self, topic: str) -> AIOKafkaConsumer:
        """Return a client that reads all partitions from their start, in no group."""
        return AIOKafkaConsumer(
            topic, bootstrap_servers=self._bootstrap, auto_offset_reset="earliest"
        )

    async def messages(self, topic: str = "") -> list[ConsumerRecord]:
        """Return all messages of a topic, by default that of reservation events."""
        found: list[ConsumerRecord] = []
        async with (
            asyncio.timeout(CONVERGE_TIMEOUT_S),
            self._client(topic or self._topics.orders) as client,
        ):
            count = sum((await client.end_offsets(client.assignment())).values())
            while len(found) < count:
                batches = await client.getmany(timeout_ms=200)
                found += [record for batch in batches.values() for record in batch]
        return found

    async def violations(
        self,
        sku: str,
        history: History,
        *,
        forgotten: Collection[str] = (),
        timeout_s: float = CONVERGE_TIMEOUT_S,
    ) -> list[str]:
        """Return what is still wrong once everything has settled, or after `timeout_s`.

        Raises:
            AssertionError: an invariant that must hold at every moment did not.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            found = await self.look(sku, history, forgotten=forgotten)
            if not found or time.monotonic() > deadline_s:
                return found
            await asyncio.sleep(INTERVAL_S)

    async def look(
        self, sku: str, history: History, *, forgotten: Collection[str] = ()
    ) -> list[str]:
        """Return what is wrong at this moment, although things may be under way.

        Raises:
            AssertionError: an invariant that must hold at every moment did not.
        """
        found = check(await self.facts(sku), history, forgotten=forgotten)
        broken = [str(violation) for violation in found if violation.invariant in ALWAYS]
        assert not broken, broken
        return [str(violation) for violation in found]


def _identity(letter: ConsumerRecord) -> bytes:
    """Return an id that is the same for a dead letter that was written twice."""
    headers: dict[str, bytes] = dict(letter.headers)
    return headers.get("ce_id") or f"{letter.partition}/{letter.offset}".encode()


def _order(row: asyncpg.Record) -> OrderRow:
    return OrderRow(
        order_no=row["order_no"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        status=row["status"],
        quantity=row["quantity"],
        returned=row["returned"],
        restored=row["restored_at"] is not None,
        payment_id=row["payment_id"],
    )


def _hold(text: str) -> Hold:
    number, quantity, _ = text.removeprefix("-").split(" ")
    return Hold(order_no=number, quantity=int(quantity), live=not text.startswith("-"))


class _ClusterReader(redis.asyncio.RedisCluster):
    """Knows where a node is that the others name by its port alone: where they are."""

    async def _execute_command(self, target_node: ClusterNode, *args: Any, **kwargs: Any) -> Any:
        deadline_s = time.monotonic() + CONVERGE_TIMEOUT_S
        while True:
            try:
                return await super()._execute_command(target_node, *args, **kwargs)
            except DataError:
                # A slot has moved, to a node without a host: the map names all of them.
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(INTERVAL_S)
                await self.nodes_manager.initialize()
                slot = await self._determine_slot(*args)
                target_node = self.nodes_manager.get_node_from_slot(slot)


def redis_client(stores: Stores) -> "redis.asyncio.Redis":
    """Return a client of redis-py's own: another than the services have for a cluster."""
    retry = Retry(NoBackoff(), RETRIES_MAX)
    if not stores.redis_cluster:
        return redis.asyncio.Redis.from_url(stores.redis_url, retry=retry)
    nodes = stores.redis_url.removeprefix("redis://").split(",")
    startup = [ClusterNode(*node.split(":")) for node in nodes]
    client: Any = _ClusterReader(startup_nodes=startup, retry=retry, require_full_coverage=False)
    return cast("redis.asyncio.Redis", client)


@asynccontextmanager
async def open_reader(stores: Stores, *, topics: Topics, group: str) -> AsyncIterator[StoreReader]:
    """Open a reader with connections of its own, which it opens at its first look."""
    async with (
        asyncpg.create_pool(stores.postgres_dsn, min_size=0, max_size=4) as pool,
        redis_client(stores) as client,
    ):
        yield StoreReader(
            sql=pool,
            client=client,
            bootstrap=stores.kafka_bootstrap,
            topics=topics,
            group=group,
        )
