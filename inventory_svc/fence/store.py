"""What a Redis primary says about itself, and the token that it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError, WatchError

from inventory_svc.keys import generation_key, mesh_key, sale_key, skus_key, stock_key
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import redis_faults

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
    """

    run_id: str
    replication_id: str
    previous_replication_id: str
    primary: bool
    token: str
    mesh_id: str
    empty: bool


class StoreKeeper:
    """Reads the identity of Redis, and writes the token. DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def read(self) -> StoreIdentity | None:
        """Return the identity of the server; None if Redis does not let us see it."""
        pipeline: Any = self._redis.pipeline(transaction=True)
        pipeline.info()
        pipeline.mget(generation_key(), mesh_key())
        pipeline.exists(skus_key())
        try:
            with redis_faults():
                info, (token, mesh_id), sales = await pipeline.execute()
        except DependencyUnavailable as error:
            if isinstance(error.__cause__, ResponseError):
                return None
            raise
        names = ("run_id", "master_replid", "role")
        if not all(info.get(name) for name in names):
            return None
        return StoreIdentity(
            run_id=str(info["run_id"]),
            replication_id=str(info["master_replid"]),
            previous_replication_id=str(info.get("master_replid2", "")),
            primary=info["role"] == "master",
            token=(token or b"").decode(errors="replace"),
            mesh_id=(mesh_id or b"").decode(errors="replace"),
            empty=not sales,
        )

    async def keep(self, token: str, *, mesh_id: str, run_id: str, discard: bool) -> Sequence[str]:
        """Have this server, and no other, keep the token.

        Args:
            mesh_id: to keep beside it.
            run_id: of the server.
            discard: close all sales too, in the same step: they are stale, and must be rebuilt.

        Returns:
            The skus of the sales that were closed.

        Raises:
            DependencyUnavailable: the connection leads to another server, or others came between.
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
    pipeline.multi()
    for sku in skus:
        # Missing keys close a sale. Its outbox stays: it has reservations that were promised.
        pipeline.unlink(sale_key(sku), stock_key(sku))
    pipeline.mset({generation_key(): token, mesh_key(): mesh_id})
    await pipeline.execute()
    return skus
