"""Wait for something: by a signal if the test can have one, else by looking again and again.

`Signal` is for what happens in the test's own process, `exited` and `logged` for what another
process does. `eventually` polls: it is for looks at a store, at a metric, or at a call's answer,
which signal nothing.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
TIMEOUT_S = 20.0
INTERVAL_S = 0.02


class Signal:
    """Wakes the tests that wait for a change of the object which owns it."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def notify(self) -> None:
        """Say that something has changed. Call it in the event loop of those who wait."""
        for waiting in self._waiting:
            waiting.set()

    async def until(self, look: Callable[[], T], *, timeout_s: float = TIMEOUT_S) -> T:
        """Wait until `look` returns something true, and return that.

        `look` is called once now, then after each change.

        Raises:
            AssertionError: it returned nothing true within `timeout_s`; names its last value.
        """
        changed = asyncio.Event()
        self._waiting.add(changed)
        seen = look()
        try:
            async with asyncio.timeout(timeout_s):
                while not seen:
                    await changed.wait()
                    changed.clear()
                    seen = look()
        except TimeoutError:
            raise AssertionError(f"still {seen!r} after {timeout_s} s") from None
        finally:
            self._waiting.discard(changed)
        return seen


async def exited(pid: int, *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until a child process has ended; its parent may collect its exit code then.

    Raises:
        AssertionError: it still runs after `timeout_s`.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        raise AssertionError(f"process {pid} still runs after {timeout_s} s") from None
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def logged(path: Path, text: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """Wait until a line with `text` is in a log file, and return that line.

    Raises:
        AssertionError: there was none within `timeout_s`.
    """
    # It follows the file by inotify, and through a rotation.
    tail = await asyncio.create_subprocess_exec(
        *("tail", "--quiet", "--lines=+1", "--follow=name", "--retry", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert tail.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            async for line in tail.stdout:
                if text in line.decode(errors="replace"):
                    return line.decode(errors="replace")
    except TimeoutError:
        pass
    finally:
        tail.kill()
        await tail.communicate()
    raise AssertionError(f"{path} had no line with {text!r} within {timeout_s} s")


async def eventually(
    look: Callable[[], Awaitable[T]],
    is_it: Callable[[T], bool] = bool,
    *,
    timeout_s: float = TIMEOUT_S,
) -> T:
    """Look every 20 ms until `is_it` accepts what `look` returns, and return that.

    Raises:
        AssertionError: nothing was accepted within `timeout_s`; names what was seen last.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        seen = await look()
        if is_it(seen):
            return seen
        assert time.monotonic() < deadline_s, f"still {seen!r} after {timeout_s} s"
        await asyncio.sleep(INTERVAL_S)
