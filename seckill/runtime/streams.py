"""The streams that a server has open: when it stops, each is ended at once, with a status."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from seckill.errors import DependencyUnavailable, retry_delay_s

# Watchers come back from a replica that stops within a second, not all in one moment.
STOPPING_WAIT_S = 0.3


def replica_stopping() -> DependencyUnavailable:
    """Return what the callers of a replica that stops are told: other replicas take their calls."""
    return DependencyUnavailable(
        "this replica is stopping", retry_after_s=retry_delay_s(STOPPING_WAIT_S)
    )


class OpenStream:
    """A call whose responses are a stream.

    Attributes:
        sending: a response is being sent; the handler must not be cancelled, but is asked later.
    """

    def __init__(self, *, ends: bool) -> None:
        """`ends`: the server has stopped already."""
        self.sending = False
        self._ends = ends
        self._task = asyncio.current_task()

    def check(self) -> None:
        """Raise DependencyUnavailable if the stream is to end."""
        if self._ends:
            raise replica_stopping()

    def end(self) -> None:
        """Have the handler end with `replica_stopping`."""
        self._ends = True
        if self._task is not None and not self.sending:
            self._task.cancel()

    def fault(self, error: BaseException) -> BaseException:
        """Return what the call is to end with: `error`, unless it is our own cancellation."""
        if not self._ends or not isinstance(error, asyncio.CancelledError):
            return error
        if self._task is not None:
            self._task.uncancel()
        return replica_stopping()


class OpenStreams:
    """All streams of one server."""

    def __init__(self) -> None:
        self._open: set[OpenStream] = set()
        self._ended = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def opened(self) -> Iterator[OpenStream]:
        """Keep a stream, handled by the current task, until its end."""
        stream = OpenStream(ends=self._ended)
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)

    def end(self) -> None:
        """End every stream; those that are opened later end at their first step."""
        self._ended = True
        for stream in self._open:
            stream.end()
