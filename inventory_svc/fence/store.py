"""What a Redis primary says about itself, and the token that it keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ResponseError, WatchError

from inventory_svc.keys import (
    buckets_key,
    generation_key,
    mesh_key,
    sale_key,
    skus_key,
    stock_key,
)
from seckill.errors import DependencyUnavailable
from seckill.runtime.bucket_tags import tags_of
from seckill.runtime.redis_client import redis_faults, replace_connections

if TYPE_CHECKING:
    import redis.asyncio


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """A server, as of one moment.

    Attributes:
        primary: whether it is one.
        token: of the generation whose data it has, "" if it keeps none.
        mesh_id: of the mesh whose Redis it is, "" if it keeps none.
        empty: whether it has no sales.
        shard: of a cluster whose primary it is; "" of a server on its own.
    """

    run_id: str
    replication_id: str
    previous_replication_id: str
    primary: bool
    token: str
    mesh_id: str
    empty: bool
    shard: str = ""


class Keeper(Protocol):
    """Reads the identity of one server, and writes its token. DependencyUnavailable without it."""

    # What log lines say of the server.
    named: Mapping[str, str]

    async def read(self) -> StoreIdentity | None:
        """Return the identity of the server; None if it does not let us see it."""

    async def keep(self, token: str, *, mesh_id: str, run_id: str, discard: bool) -> Sequence[str]:
        """Have this server, and no other, keep the token.

        Args:
            mesh_id: to keep beside it.
            run_id: of the server.
            discard: close all its sales too: they are stale, and must be rebuilt.

        Returns:
            The skus of the sales that were closed.

        Raises:
            DependencyUnavailable: the connection leads to another server, or others came between.
        """

    def reconnect(self, reason: str) -> None:
        """Connect again before the next command; `reason` is for the log."""


class StoreKeeper:
    """The keeper of a server on its own; see Keeper."""

    named: Mapping[str, str] = {}

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    def reconnect(self, reason: str) -> None:
        """Connect again before the next command; `reason` is for the log."""
        replace_connections(self._redis, reason)

    async def read(self) -> StoreIdentity | None:
        """Return the identity of the server; None if Redis does not let us see it."""
        pipeline: Any = self._redis.pipeline(transaction=True)
        pipeline.info()
        pipeline.mget(generation_key(), mesh_key())
        pipeline.exists(skus_key())
        try:
            with redis_faults():
                info, kept, sales = await pipeline.execute()
        except DependencyUnavailable as error:
            if isinstance(error.__cause__, ResponseError):
                return None
            raise
        return identity_of(info, kept, empty=not sales)

    async def keep(self, token: str, *, mesh_id: str, run_id: str, discard: bool) -> Sequence[str]:
        """Have this server, and no other, keep the token, and close sales in the same step; see
        Keeper.
        """
        try:
            with redis_faults():
                async with self._redis.pipeline(transaction=True) as pipeline:
                    return await _keep(
                        pipeline, token, mesh_id=mesh_id, run_id=run_id, discard=discard
                    )
        except DependencyUnavailable as error:
            if isinstance(error.__cause__, WatchError):
                raise DependencyUnavailable("others keep the token at the same time") from error
            raise


def identity_of(
    info: Mapping[str, Any], kept: Sequence[bytes | None], *, empty: bool, shard: str = ""
) -> StoreIdentity | None:
    """Return what a server says of itself; None if it hides who it is.

    Args:
        kept: its token and its mesh.
    """
    if not all(info.get(name) for name in ("run_id", "master_replid", "role")):
        return None
    token, mesh_id = ((value or b"").decode(errors="replace") for value in kept)
    return StoreIdentity(
        run_id=str(info["run_id"]),
        replication_id=str(info["master_replid"]),
        previous_replication_id=str(info.get("master_replid2", "")),
        primary=info["role"] == "master",
        token=token,
        mesh_id=mesh_id,
        empty=empty,
        shard=shard,
    )


async def _keep(
    pipeline: Any, token: str, *, mesh_id: str, run_id: str, discard: bool
) -> Sequence[str]:
    # From here on one connection is used, and its loss is an error.
    await pipeline.watch(generation_key(), mesh_key())
    if (await pipeline.info("server")).get("run_id") != run_id:
        raise DependencyUnavailable("the connection leads to another redis")
    known, mesh = await pipeline.mget(generation_key(), mesh_key())
    if mesh not in (None, mesh_id.encode()):
        raise DependencyUnavailable("another mesh has taken this redis meanwhile")
    if known == token.encode() and mesh is not None:
        return ()
    members = await pipeline.smembers(skus_key()) if discard else ()
    skus = sorted(member.decode() for member in members)
    several = await pipeline.hgetall(buckets_key()) if discard else {}
    pipeline.multi()
    for sku in skus:
        # Missing keys close a sale. Its outbox stays: it has reservations that were promised.
        for tag in tags_of(sku, int(several.get(sku.encode(), 1))):
            pipeline.unlink(sale_key(tag), stock_key(tag))
    pipeline.mset({generation_key(): token, mesh_key(): mesh_id})
    await pipeline.execute()
    return skus
