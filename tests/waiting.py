"""Wait for something to become true, where there is no event to await."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL_S = 0.02


async def eventually(
    look: Callable[[], Awaitable[T]],
    is_it: Callable[[T], bool] = bool,
    *,
    timeout_s: float = 20.0,
) -> T:
    """Look again and again until what is seen is it; returns it.

    Raises:
        AssertionError: it did not become so within `timeout_s`; tells what was seen last.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        seen = await look()
        if is_it(seen):
            return seen
        assert time.monotonic() < deadline_s, f"still {seen!r} after {timeout_s} s"
        await asyncio.sleep(INTERVAL_S)
