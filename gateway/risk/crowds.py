"""How many different users came with one key (an address, a fingerprint) lately: an estimate.

For each key two bitmaps of 64 bits, of this half of the window and of the one before it: each user
sets one bit. From the bits that are left the number follows (linear counting, Whang et al. 1990):
within a tenth or two up to 64 users, and "very many" from 200 on. So a key takes about 200 bytes
however many users it has.
"""

import math

from seckill.runtime.recent import Recent

BITS = 64
_MASK = (1 << BITS) - 1
# Bits that are set → users; with none left, what one left would mean.
_ESTIMATES = tuple(BITS * math.log(BITS / max(1, BITS - ones)) for ones in range(BITS + 1))
USERS_MAX = int(_ESTIMATES[-1])


class Crowds:
    """Counts users by key, for at most `keys_max` keys; the keys used longest ago are forgotten.

    Keys and users are kept as hashes with a secret of this process: short, and nobody can choose
    users who set the same bit.
    """

    def __init__(self, *, window_s: float, keys_max: int) -> None:
        """`window_s`: users are forgotten after half of it at the earliest, and then all of it."""
        self._half_s = window_s / 2
        # Number of the half · bitmap of the one before · bitmap of it, in one integer.
        self._kept: Recent[int, int] = Recent(keys_max)

    def __len__(self) -> int:
        """Keys in memory."""
        return len(self._kept)

    def add(self, key: str | bytes, user_id: str, *, now_s: float) -> float:
        """Note that this user came with the key; return how many have.

        `now_s`: monotonic time.
        """
        half = int(now_s / self._half_s)
        bucket = hash(key)
        before, latest = self._bitmaps(bucket, half)
        latest |= 1 << (hash(user_id) % BITS)
        self._kept.put(bucket, (half << 2 * BITS) | (before << BITS) | latest)
        return _ESTIMATES[(before | latest).bit_count()]

    def count(self, key: str | bytes, *, now_s: float) -> float:
        """Return how many users came with the key, noting nothing."""
        before, latest = self._bitmaps(hash(key), int(now_s / self._half_s))
        return _ESTIMATES[(before | latest).bit_count()]

    def _bitmaps(self, bucket: int, half: int) -> tuple[int, int]:
        """The bitmaps of the half before, and of this one."""
        kept = self._kept.get(bucket)
        if kept is None:
            return 0, 0
        age = half - (kept >> 2 * BITS)
        if age == 0:
            return (kept >> BITS) & _MASK, kept & _MASK
        return (kept & _MASK, 0) if age == 1 else (0, 0)
