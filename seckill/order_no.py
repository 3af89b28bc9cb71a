"""Order numbers: sortable by time, unique without coordination, with a shard of the buyer.

26 characters of Crockford's base 32, in the shape of a ULID: 10 of time in milliseconds, 2 of the
buyer's shard (10 bits), 10 that are random for each batch, 4 that count within the batch.
"""

import random
import re
import zlib
from collections.abc import Iterable

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26
SHARDS = 1024
PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")

_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_VALUES = {pair: value for value, pair in enumerate(_PAIRS)}
_TIME_PAIRS = 5
_SALT_PAIRS = 5


def _encode(value: int, pairs: int) -> str:
    return "".join(_PAIRS[value >> 10 * place & 1023] for place in reversed(range(pairs)))


def shard_of(user_id: str) -> int:
    """Return the buyer's shard, 0 to 1023: CRC-32 of the id modulo 1,024."""
    return zlib.crc32(user_id.encode()) % SHARDS


def make_order_nos(user_ids: Iterable[str], *, now_s: float, rng: random.Random) -> list[str]:
    """Return a number for each buyer of a batch, in order, for at most 1,048,576 buyers.

    Two batches of the same millisecond differ in 50 random bits.
    """
    time_part = _encode(int(now_s * 1000), _TIME_PAIRS)
    salt = _encode(rng.getrandbits(10 * _SALT_PAIRS), _SALT_PAIRS)
    return [
        f"{time_part}{_PAIRS[zlib.crc32(user_id.encode()) & 1023]}{salt}"
        f"{_PAIRS[index >> 10]}{_PAIRS[index & 1023]}"
        for index, user_id in enumerate(user_ids)
    ]


def is_order_no(text: str) -> bool:
    """Return whether `text` has the shape of an order number."""
    return PATTERN.fullmatch(text) is not None


def made_at_s(order_no: str) -> float:
    """Return the Unix time in seconds at which the number was assigned, to the millisecond."""
    value = 0
    for place in range(0, 2 * _TIME_PAIRS, 2):
        value = value << 10 | _VALUES[order_no[place : place + 2]]
    return value / 1000
