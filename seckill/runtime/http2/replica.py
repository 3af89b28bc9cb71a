"""One replica of a called service: its connection, which is opened again when it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from seckill.runtime.http2.client_connection import ClientConnection
from seckill.runtime.http2.engine import (
    EngineError,
    Event,
    SettingsReceived,
)
from seckill.runtime.http2.outliers import Standing
from seckill.runtime.http2.targets import Address

# A connection on which nothing has come for so long is asked for a sign of life, and ended if there
# is none: a replica that acknowledges bytes and answers nothing is gone within 25 s. Our servers
# allow a ping each 10 s (server.py).
SILENT_S = 20.0
SIGN_S = 5.0
# Pauses between attempts double from the first to the last. They vary by a fifth, so that callers
# do not try in step.
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 1.0
# A connection that lasted longer was none of the attempts that failed.
LASTING_S = 1.0

log = structlog.get_logger()


class ReplicaConnection(ClientConnection):
    """A connection to a replica.

    Attributes:
        greeted: the server has said that it speaks HTTP/2.
        settled: it has, or the connection has ended.
        left: it takes no further calls, and ends with its last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.greeted = False
        self.settled = asyncio.Event()
        self.left = asyncio.Event()
        self._heard_s = 0.0
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None and encrypted.selected_alpn_protocol() != "h2":
            self.hang_up()

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        super().data_received(data)

    def handle_control(self, event: Event) -> None:
        super().handle_control(event)
        if isinstance(event, SettingsReceived) and not self.greeted:
            self.greeted = True
            self.settled.set()
            self._looking = self._loop.call_later(SILENT_S, self._look)
        if not self.usable:
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self.usable = False
        self.settled.set()
        self.left.set()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Take no further calls, and end with the last one."""
        self.usable = False
        self.left.set()
        self.speak()

    def _look(self) -> None:
        """Ask for a sign of life if there has been none for long."""
        silent_s = self._loop.time() - self._heard_s
        if silent_s < SILENT_S:
            self._looking = self._loop.call_later(SILENT_S - silent_s, self._look)
            return
        try:
            self.engine.ping()
        except EngineError:
            self.hang_up()
            return
        self.speak()
        self._looking = self._loop.call_later(SIGN_S, self._give_up, self._heard_s)

    def _give_up(self, heard_s: float) -> None:
        if self._heard_s > heard_s:
            self._look()
        else:
            log.warning("replica does not answer, connection closed")
            self.hang_up()


Connect = Callable[[Address], Awaitable[ReplicaConnection]]


class Replica:
    """One address of a service.

    Attributes:
        connection: takes calls; None while there is none.
        failure: why the last attempt to connect failed; empty if it did not.
        standing: what its calls say of it.
    """

    def __init__(
        self,
        address: Address,
        connect: Connect,
        *,
        on_change: Callable[[], None],
        rng: random.Random,
    ) -> None:
        """`on_change` is told of each connection that begins or ends, and of each failure."""
        self.address = address
        self.connection: ReplicaConnection | None = None
        self.failure = ""
        self.standing = Standing()
        self._connect = connect
        self._on_change = on_change
        self._rng = rng

    @property
    def usable(self) -> bool:
        """Whether it takes a call now."""
        return self.connection is not None and self.connection.usable

    async def run(self) -> None:
        """Keep a connection until cancelled; calls on the last one may end then."""
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_MIN_S
        try:
            while True:
                begun_s = loop.time()
                if await self._open():
                    await self._last()
                    if loop.time() - begun_s >= LASTING_S:
                        pause_s = PAUSE_MIN_S
                        continue
                await asyncio.sleep(pause_s * self._rng.uniform(0.8, 1.2))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
        finally:
            if self.connection is not None:
                self.connection.leave()

    async def _open(self) -> bool:
        try:
            self.connection = await self._connect(self.address)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
            failure = str(error) or type(error).__name__
            if not self.failure:
                log.warning("replica not reached", address=str(self.address), error=failure)
            self.failure = failure
        else:
            self.failure = ""
        self._on_change()
        return not self.failure

    async def _last(self) -> None:
        """Wait until the connection takes no further calls."""
        if self.connection is not None:
            await self.connection.left.wait()
            self.connection = None
            self._on_change()
