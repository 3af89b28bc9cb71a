"""Order numbers."""

import random
import time

from hypothesis import given
from hypothesis import strategies as st

from seckill.order_no import LENGTH, is_order_no, made_at_s, make_order_nos, shard_of

USERS = st.lists(st.text(min_size=1, max_size=20), max_size=50)


@given(USERS, st.integers(0, 2**47), st.integers())
def test_every_number_has_the_shape_and_tells_its_time_and_shard(
    users: list[str], when_ms: int, seed: int
) -> None:
    """26 characters, the millisecond in front, then the buyer's shard."""
    now_s = when_ms / 1000
    numbers = make_order_nos(users, now_s=now_s, rng=random.Random(seed))
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    for user, number in zip(users, numbers, strict=True):
        assert len(number) == LENGTH
        assert is_order_no(number)
        # Seconds as a float may lie just below their millisecond.
        assert when_ms - round(made_at_s(number) * 1000) in (0, 1)
        assert alphabet.index(number[10]) * 32 + alphabet.index(number[11]) == shard_of(user)
    assert len(set(numbers)) == len(numbers)


def test_later_numbers_sort_behind_earlier_ones() -> None:
    """By time first, for any buyers."""
    rng = random.Random(7)
    begin_s = time.time()
    numbers = [
        make_order_nos([f"user-{step}"], now_s=begin_s + step, rng=rng)[0] for step in range(100)
    ]
    assert numbers == sorted(numbers)


def test_what_is_no_order_number_is_told_apart() -> None:
    """Too short, lower case, letters that look like digits, time beyond its range."""
    good = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert is_order_no(good)
    for bad in ("", good[:-1], good + "A", good.lower(), "I" + good[1:], "8" + good[1:]):
        assert not is_order_no(bad)
