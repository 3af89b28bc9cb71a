"""Sales as Redis has them: read, changed, removed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.spread import Spread
from inventory_svc.buckets.standing import Standings
from inventory_svc.keys import (
    backlog_key,
    notices_channel,
    outbox_key,
    past_key,
    replication_marker_key,
    sale_key,
    skus_key,
    stock_key,
    transfers_key,
    users_key,
)
from inventory_svc.sales.fields import STATES, Changes, to_sale
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import UPDATE_SALE
from seckill.errors import DependencyUnavailable, InvalidField, SaleNotLoaded, SaleStateConflict
from seckill.runtime.redis_client import is_unreachable, redis_faults, server_of
from seckill.v1 import order_pb2, sale_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Sales read by one pipeline.
READ_CHUNK = 256
# Replies of update_sale.lua.
_NOT_LOADED, _CLOSED, _NO_WINDOW = -1, -2, -3


def _to_sale_or_lost(sku: str, fields: Any, stock: Any) -> sale_pb2.Sale:
    for reply in (fields, stock):
        if not isinstance(reply, ResponseError):
            continue
        if not str(reply).startswith("WRONGTYPE"):
            # A server that is busy, or refuses us, has not lost the sale.
            raise DependencyUnavailable("redis refuses to tell of a sale") from reply
        return to_sale(sku, {}, None)
    return to_sale(sku, fields, stock)


class Sales:
    """Reads sales, and changes what operators may change. DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis", layouts: Layouts | None = None) -> None:
        """`layouts`: which sales have several buckets, as the whole process knows it."""
        self._redis = client
        self._scripts = runner_of(client)
        self._layouts = layouts or Layouts(client)
        self._standings = Standings(client)
        self._spread = Spread(client)

    async def now_ms(self, sku: str) -> int:
        """Return the Unix time in milliseconds by the clock of the server that has the sale."""
        tag = self._layouts.tags(sku)[0]
        with redis_faults():
            seconds, microseconds = await (await server_of(self._redis, sale_key(tag))).time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def skus(self) -> list[str]:
        """Return the skus of all sales, sorted."""
        with redis_faults():
            members: Any = await self._redis.smembers(skus_key())
        return sorted(member.decode() for member in members)

    async def count(self) -> int:
        """Count all sales."""
        with redis_faults():
            return int(await self._redis.scard(skus_key()))

    async def known(self, sku: str) -> bool:
        """Return whether a sale with this sku was ever created here."""
        with redis_faults():
            return bool(await self._redis.sismember(skus_key(), sku))

    async def remember(self, *skus: str) -> None:
        """Note skus before their sales are loaded, so that a lost sale is missed."""
        if skus:
            with redis_faults():
                await self._redis.sadd(skus_key(), *skus)

    async def forget(self, sku: str) -> None:
        """Remove all keys of a shadow sale, or of an archived one, and tell the watchers."""
        await self._layouts.learn([sku])
        for tag in self._layouts.tags(sku):
            with redis_faults():
                await self._redis.unlink(*_keys_of(tag))
        # A server of its own in a cluster: told only when the sale is gone.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.srem(skus_key(), sku)
        pipeline.publish(notices_channel(), sku)
        with redis_faults():
            await pipeline.execute()
        await self._layouts.forget(sku)

    async def read(
        self, skus: Sequence[str], *, reachable_only: bool = False
    ) -> list[sale_pb2.Sale]:
        """Return the sales in the order of `skus`; those whose keys are missing are not loaded.

        Args:
            reachable_only: leave those out whose node of a cluster does not answer.
        """
        whole = [sku for sku in skus if len(self._layouts.tags(sku)) == 1]
        found: dict[str, sale_pb2.Sale] = {}
        for start in range(0, len(whole), READ_CHUNK):
            chunk = whole[start : start + READ_CHUNK]
            found |= await self._read_chunk(chunk, reachable_only=reachable_only)
        # The keys of a sale with several buckets have other names.
        try:
            await self._layouts.learn(sku for sku in found if not found[sku].loaded)
        except DependencyUnavailable:
            if not reachable_only:
                raise
            # Whether these are lost cannot be told: it is one key, on a node that may be away.
            found = {sku: sale for sku, sale in found.items() if sale.loaded}
        for sku in skus:
            if len(self._layouts.tags(sku)) > 1:
                found.pop(sku, None)
                sale = await self._read_buckets(sku)
                if sale is not None:
                    found[sku] = sale
                elif not reachable_only:
                    raise DependencyUnavailable("a bucket of the sale does not answer")
        return [found[sku] for sku in skus if sku in found]

    async def _read_chunk(
        self, skus: Sequence[str], *, reachable_only: bool
    ) -> dict[str, sale_pb2.Sale]:
        """Return sales of one bucket each."""
        pipeline = self._redis.pipeline(transaction=False)
        for sku in skus:
            pipeline.hgetall(sale_key(sku))
            pipeline.get(stock_key(sku))
        with redis_faults():
            # A key of the wrong type is an answer about one sale, not a fault of all.
            replies = await pipeline.execute(raise_on_error=False)
            unreachable = [reply for reply in replies if is_unreachable(reply)]
            if unreachable and not reachable_only:
                raise unreachable[0]
        return {
            sku: _to_sale_or_lost(sku, fields, stock)
            for sku, fields, stock in zip(skus, replies[0::2], replies[1::2], strict=True)
            if not (is_unreachable(fields) or is_unreachable(stock))
        }

    async def _read_buckets(self, sku: str) -> sale_pb2.Sale | None:
        """Return a sale of several buckets; None if the node of one does not answer.

        It is loaded if all buckets are, and sold out if it is certain that all are empty and
        nothing is on its way between them.
        """
        standing, is_certain = await self._standings.read_still(self._layouts.tags(sku), below=1)
        if not standing.is_reachable:
            return None
        if not standing.is_loaded:
            return to_sale(sku, {}, None)
        units = standing.units if is_certain else max(1, standing.units)
        return to_sale(sku, standing.buckets[0].fields, units)

    async def holders(self, sku: str) -> list[str]:
        """Return the users with a hold on the sale, live or released, in no order."""
        found: list[str] = []
        for tag in self._layouts.tags(sku):
            with redis_faults():
                users: Any = await self._redis.hkeys(users_key(tag))
            found += [user.decode() for user in users]
        return found

    async def holder_count(self, sku: str) -> int:
        """Count the users with a hold, live or released; it only grows while the sale is loaded."""
        with redis_faults():
            counts = [await self._redis.hlen(users_key(tag)) for tag in self._layouts.tags(sku)]
        return sum(counts)

    async def record(self, sku: str) -> order_pb2.RecordSaleRequest | None:
        """Return what operators made of the sale, for the database; None if it is not loaded."""
        names = ("state", "start_ms", "end_ms", "revision")
        with redis_faults():
            found: Any = await self._redis.hmget(self._first_key(sku), names)
        state, start_ms, end_ms, revision = found
        if state is None:
            return None
        record = order_pb2.RecordSaleRequest(
            sku=sku, state=STATES[state], revision=int(revision or 0)
        )
        record.start_time.FromMilliseconds(int(start_ms))
        record.end_time.FromMilliseconds(int(end_ms))
        return record

    async def versions(self, sku: str) -> tuple[int, int]:
        """Return the total of a loaded sale, and how often its title or price were changed."""
        with redis_faults():
            found: Any = await self._redis.hmget(self._first_key(sku), ("total", "terms_revision"))
        total, terms_revision = found
        return int(total or 0), int(terms_revision or 0)

    async def update(self, sku: str, given: Changes, *, timeout_s: float) -> sale_pb2.Sale:
        """Change state, start and end, as far as they are given.

        Args:
            timeout_s: how long to wait for Redis.

        Returns:
            The sale as it is then.

        Raises:
            SaleNotLoaded: its keys are missing.
            SaleStateConflict: it is closed, for good.
            InvalidField: its end would not be after its start.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run_for_operator.
        """
        return await self._update(sku, given, apply=True, timeout_s=timeout_s)

    async def require_updatable(self, sku: str, given: Changes, *, timeout_s: float) -> None:
        """Raise what `update` would, and change nothing."""
        await self._update(sku, given, apply=False, timeout_s=timeout_s)

    async def has_begun(self, sku: str) -> bool:
        """Return whether a loaded sale has started, by the clock of Redis, or ever sold a unit."""
        for tag in self._layouts.tags(sku):
            with redis_faults():
                server = await server_of(self._redis, sale_key(tag))
                pipeline = server.pipeline(transaction=True)
                pipeline.time()
                pipeline.hget(sale_key(tag), "start_ms")
                pipeline.exists(users_key(tag))
                (seconds, _), start_ms, has_holds = await pipeline.execute()
            if has_holds or int(seconds) * 1000 >= int(start_ms or 0):
                return True
        return False

    def _first_key(self, sku: str) -> str:
        """Return the hash whose terms, state and window the other buckets follow."""
        return sale_key(self._layouts.tags(sku)[0])

    async def _update(
        self, sku: str, given: Changes, *, apply: bool, timeout_s: float
    ) -> sale_pb2.Sale:
        words = [word for change in given.items() for word in change]
        first, *others = await self._tags_learnt(sku)
        status, *reply = await self._scripts.run_for_operator(
            UPDATE_SALE,
            [sale_key(first), stock_key(first)],
            [sku, int(apply), *words],
            timeout_s=timeout_s,
        )
        if status == _NOT_LOADED:
            raise SaleNotLoaded(metadata={"sku": sku})
        if status == _CLOSED:
            raise SaleStateConflict("a closed sale stays closed", metadata={"sku": sku})
        if status == _NO_WINDOW:
            field = "end_time" if "end_ms" in given else "start_time"
            raise InvalidField([(field, "the end must be after the start")])
        pairs, stock = reply
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if not others:
            return to_sale(sku, fields, stock)
        if apply:
            await self._spread.to(others, sku, fields, timeout_s=timeout_s)
        return (await self.read([sku]))[0]

    async def _tags_learnt(self, sku: str) -> Sequence[str]:
        """Return the tags of a sale's buckets, whether it was known before or not."""
        await self._layouts.learn([sku])
        return self._layouts.tags(sku)


def _keys_of(tag: str) -> Sequence[str]:
    """Return all keys of a sale, or of one of its buckets, that stay."""
    return (
        sale_key(tag),
        stock_key(tag),
        users_key(tag),
        past_key(tag),
        outbox_key(tag),
        backlog_key(tag),
        transfers_key(tag),
        replication_marker_key(tag),
    )
