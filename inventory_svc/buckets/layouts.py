"""Which sales have several buckets, and the hash tags of these."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from inventory_svc.keys import BUCKET_MARK, buckets_key
from seckill.runtime.redis_client import redis_faults

if TYPE_CHECKING:
    import redis.asyncio

# Sales whose tags are kept: a tag takes a few tries for each bucket.
TAGS_KEPT = 1_024


@lru_cache(TAGS_KEPT)
def tags_of(sku: str, buckets: int) -> tuple[str, ...]:
    """Return the hash tag of each bucket, never to change: the sku itself if there is one only.

    Bucket b of n has the first tag "sku/b.0", "sku/b.1", … in the b-th of n equal parts of the
    slots: so as many masters with equal parts have one bucket each.
    """
    if buckets == 1:
        return (sku,)
    return tuple(_tag(sku, bucket, buckets) for bucket in range(buckets))


def _tag(sku: str, bucket: int, buckets: int) -> str:
    tags = (f"{sku}{BUCKET_MARK}{bucket}.{number}" for number in count())
    return next(
        tag
        for tag in tags
        if key_slot(tag.encode()) * buckets // REDIS_CLUSTER_HASH_SLOTS == bucket
    )


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
