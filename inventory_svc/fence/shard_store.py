"""What the primary of a shard of a cluster says about itself, and the token that it keeps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError, WatchError

from inventory_svc.fence.store import StoreIdentity, identity_of
from inventory_svc.keys import generation_key, mesh_key, sale_key, sku_of, stock_key, tag_in
from inventory_svc.stock.scripts import DISCARD
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import redis_faults, replace_connections
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_slots import tag_of

if TYPE_CHECKING:
    import redis.asyncio

# Keys looked at by one SCAN.
SCAN_COUNT = 1_000


class ShardKeeper:
    """The keeper of a node that owns slots; see Keeper.

    The token is in the lowest of them. Once that has moved to another shard, each of the two has
    its own token written again: both are told from others by their replication ids.
    """

    def __init__(self, cluster: ClusterRedis, address: str) -> None:
        """`address`: of the node, host:port."""
        self.named: Mapping[str, str] = {"node": address}
        self._cluster = cluster
        self._address = address

    def reconnect(self, reason: str) -> None:
        """Connect again before the next command; `reason` is for the log."""
        found = self._cluster.slots.primaries().get(self._address)
        if found is not None:
            replace_connections(found[0], reason)
        self._cluster.slots.suspect()

    async def read(self) -> StoreIdentity | None:
        """Return the identity of the node; None if it does not let us see it."""
        node, tag = await self._node()
        pipeline: Any = node.pipeline(transaction=False)
        pipeline.info()
        pipeline.execute_command("CLUSTER", "MYSHARDID")
        pipeline.get(generation_key(tag))
        pipeline.get(mesh_key(tag))
        try:
            with redis_faults():
                info, shard, *kept = await pipeline.execute()
        except DependencyUnavailable as error:
            if not isinstance(error.__cause__, ResponseError):
                raise
            if "MYSHARDID" in str(error.__cause__):
                raise DependencyUnavailable(
                    "a cluster must be of Redis 7.2 or later, or Valkey, and let us name its shards"
                ) from error
            return None
        empty = kept[0] is None and not await self._has_sales(node)
        return identity_of(info, kept, empty=empty, shard=shard.decode())

    async def keep(self, token: str, *, mesh_id: str, run_id: str, discard: bool) -> Sequence[str]:
        """Have this node, and no other, keep the token; see Keeper.

        Sales are closed before: in a cluster no step can do both. If others keep the token
        meanwhile, what they have loaded since stays, for it has another epoch.
        """
        node, tag = await self._node()
        closed: Sequence[str] = ()
        try:
            with redis_faults():
                pipeline: Any
                async with node.pipeline(transaction=True) as pipeline:
                    if not await _wants(pipeline, token, tag=tag, mesh_id=mesh_id, run_id=run_id):
                        return ()
                    if discard:
                        closed = await self._discard(node, token, tag=tag)
                    pipeline.multi()
                    pipeline.mset({generation_key(tag): token, mesh_key(tag): mesh_id})
                    await pipeline.execute()
        except DependencyUnavailable as error:
            if not isinstance(error.__cause__, WatchError):
                raise
            if not closed:
                raise DependencyUnavailable("others keep the token at the same time") from error
        return closed

    async def _node(self) -> tuple["redis.asyncio.Redis", str]:
        """Return the node's client, and the hash tag of its lowest slot."""
        with redis_faults():
            found = (await self._cluster.primaries()).get(self._address)
        if found is None:
            raise DependencyUnavailable("this node owns no slots any more")
        return found[0], tag_of(found[1])

    async def _has_sales(self, node: "redis.asyncio.Redis") -> bool:
        with redis_faults():
            async for _ in node.scan_iter(match=sale_key("*"), count=SCAN_COUNT):
                return True
        return False

    async def _discard(self, node: "redis.asyncio.Redis", token: str, *, tag: str) -> Sequence[str]:
        """Close all sales of this node; return their skus, none if others keep the token by now."""
        match = sale_key("*")
        keys = [key.decode() async for key in node.scan_iter(match=match, count=SCAN_COUNT)]
        epochs: list[Any] = [await node.hget(key, "epoch") for key in keys]
        # Nobody loads a sale here before the token is kept: these epochs are of stale sales.
        if await node.get(generation_key(tag)) == token.encode():
            return ()
        closed = set()
        for key, epoch in zip(keys, epochs, strict=True):
            (done,) = await node.eval(
                DISCARD.body, 2, key, stock_key(tag_in(key)), (epoch or b"").decode()
            )
            if done:
                # With one bucket the whole sale is to be rebuilt.
                closed.add(sku_of(key))
        return sorted(closed)


async def _wants(pipeline: Any, token: str, *, tag: str, mesh_id: str, run_id: str) -> bool:
    """Watch token and mesh on one connection from now on; return whether they are to be written."""
    await pipeline.watch(generation_key(tag), mesh_key(tag))
    if (await pipeline.info("server")).get("run_id") != run_id:
        raise DependencyUnavailable("the connection leads to another redis")
    known, mesh = await pipeline.mget(generation_key(tag), mesh_key(tag))
    if mesh not in (None, mesh_id.encode()):
        raise DependencyUnavailable("another mesh has taken this redis meanwhile")
    return known != token.encode() or mesh is None
