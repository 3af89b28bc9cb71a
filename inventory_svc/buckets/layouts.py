"""Which sales have several buckets."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from inventory_svc.keys import buckets_key
from seckill.runtime.bucket_tags import tags_of
from seckill.runtime.redis_client import redis_faults

if TYPE_CHECKING:
    import redis.asyncio


class Layouts:
    """Remembers the sales that have several buckets. Any other has one, as far as is known.

    The database says how many, for good; `seckill:buckets` has a copy. DependencyUnavailable
    without Redis.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        # Of the sales with several.
        self._buckets: dict[str, int] = {}

    def tags(self, sku: str) -> tuple[str, ...]:
        """Return the tags of a sale's buckets; takes no time of the caller."""
        return tags_of(sku, self._buckets.get(sku, 1))

    async def learn(self, skus: Iterable[str]) -> None:
        """Look up sales that are not known to have several buckets."""
        unknown = [sku for sku in skus if sku not in self._buckets]
        if not unknown:
            return
        with redis_faults():
            found: list[Any] = await self._redis.hmget(buckets_key(), unknown)
        pairs = zip(unknown, found, strict=True)
        self._buckets |= {sku: int(number) for sku, number in pairs if number is not None}

    async def learn_all(self) -> None:
        """Look up all sales that have several buckets."""
        with redis_faults():
            found: Any = await self._redis.hgetall(buckets_key())
        self._buckets |= {sku.decode(): int(number) for sku, number in found.items()}

    async def note(self, buckets: Mapping[str, int]) -> None:
        """Note what the database says of sales, those with one bucket among them."""
        several = {sku: number for sku, number in buckets.items() if number > 1}
        if several:
            with redis_faults():
                await self._redis.hset(buckets_key(), mapping=dict[Any, Any](several))
            self._buckets |= several

    async def forget(self, sku: str) -> None:
        """Forget a sale that is gone for good, or until it is rebuilt."""
        if self._buckets.pop(sku, None):
            with redis_faults():
                await self._redis.hdel(buckets_key(), sku)
