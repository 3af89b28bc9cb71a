"""Hash tags of a sale's buckets: which slots of a cluster they are in (docs/adr/0044). Pure."""

from functools import lru_cache
from itertools import count

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

# After the sku in the tag of a bucket; no sku has it.
BUCKET_MARK = "/"
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
    return next(tag for tag in tags if _part_of(tag, buckets) == bucket)


def _part_of(tag: str, parts: int) -> int:
    """Return in which of so many equal parts of the slots a tag lands."""
    return int(key_slot(tag.encode())) * parts // REDIS_CLUSTER_HASH_SLOTS
