"""Our connection to the server behind, and what either side of a relay owes the other."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from seckill.front.stream import Owing
from seckill.runtime.http2.client_connection import ClientConnection
from seckill.runtime.http2.engine import EngineError

if TYPE_CHECKING:
    from seckill.front.connection import ServerConnection

# Bytes that may wait for one side before the other side has to wait too.
WAITING_BYTES_MAX = 65_536


class UpstreamConnection(ClientConnection):
    """Our connection to the server behind.

    Attributes:
        owing: relays that have bytes to be acknowledged once these requests have been read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owing: set[Owing] = set()

    def flush(self) -> bool:
        written = super().flush()
        if written:
            for relay in list(self.owing):
                relay.settle()
        return written


class Debt:
    """Bytes of one side that are acknowledged when the other side's queue has room."""

    __slots__ = ("_acknowledge", "_owing", "_waiting", "owed")

    def __init__(
        self,
        owing: set[Owing],
        *,
        waiting: Callable[[], int],
        acknowledge: Callable[[int], None],
    ) -> None:
        """`owing`: of the connection that the bytes go to, which settles when it has written."""
        self._owing = owing
        self._waiting = waiting
        self._acknowledge = acknowledge
        self.owed = 0

    def add(self, size: int) -> None:
        if size:
            self.owed += size
            self._owing.add(self)

    def settle(self) -> None:
        with suppress(EngineError):
            if self._waiting() > WAITING_BYTES_MAX:
                return
        self.close()

    def close(self) -> None:
        """Acknowledge what is owed, as the call is over."""
        self._owing.discard(self)
        owed, self.owed = self.owed, 0
        if owed:
            with suppress(EngineError):
                self._acknowledge(owed)


def acknowledge(
    connection: "ServerConnection | UpstreamConnection", stream_id: int, size: int
) -> None:
    """Give bytes back to the window that they were sent through."""
    connection.engine.acknowledge_received_data(size, stream_id)
    connection.speak()
