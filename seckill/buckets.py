"""Buckets of a sale, and whose home is which (docs/adr/0044). Pure."""

from zlib import crc32

# Also in migration 0014 and in sale.proto.
BUCKETS_MAX = 64


def home_of(user_id: str, buckets: int) -> int:
    """Return the number of the bucket that decides about a buyer, from 0 on.

    What a buyer holds is in their home alone, so this never changes: the CRC-32 of zlib of the
    user id, modulo the number of buckets.
    """
    return crc32(user_id.encode()) % buckets
