"""A port on which HTTP/2 is served in the event loop, without threads.

Sockets are read by the loop, and each connection is written to once a turn. What the calls on them
become is up to the kind of front. Methods that it does not serve itself go through to a grpc.aio
server on a Unix socket, so that callers see one port.
"""

import asyncio
import random
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from seckill.front import statuses
from seckill.front.connection import ServerConnection
from seckill.front.limits import FrontLimits
from seckill.front.passthrough import PassedThrough
from seckill.front.stream import HalfOpen, Stream
from seckill.runtime.callers import Caller
from seckill.runtime.http2.engine import RequestReceived
from seckill.runtime.listening import CannotListen
from seckill.runtime.mesh_tls import MeshTls

# Connections are looked at this often; their bounds in time are as exact as this.
SWEEP_S = 1.0
# From this share of the connections on, those without a call go after a second: newcomers are let
# in at the cost of the idle.
CROWDED_SHARE = 0.9
CROWDED_IDLE_S = 1.0
# How long connections that are closed with calls unanswered have to take the last answers.
LAST_WORDS_S = 0.5
# Connections that the kernel may hold for us until we accept them.
BACKLOG = 4_096

log = structlog.get_logger()


def _where(host: str, port: int) -> dict[str, Any]:
    """Return where to listen, as the loop wants it. "::" is every address of both kinds."""
    if host != "::":
        return {"host": host, "port": port, "backlog": BACKLOG}
    sock = socket.create_server(
        (host, port),
        family=socket.AF_INET6,
        backlog=BACKLOG,
        dualstack_ipv6=socket.has_dualstack_ipv6(),
    )
    return {"sock": sock, "backlog": BACKLOG}


class Flushed(Protocol):
    """Has something to write at the end of a turn."""

    def flush(self) -> None:
        """Write what there is to say."""


class Connection(Protocol):
    """A connection of a caller, in whatever version of HTTP."""

    def check(self, now_s: float, idle_timeout_s: float) -> None:
        """Look whether the connection has any future; called every second."""

    def retire(self, reason: str, *, grace_s: float, at_once: bool) -> None:
        """Ask the caller to open another connection."""

    def give_up(self) -> None:
        """The time for calls is over."""

    def abort(self) -> None:
        """Hang up, now."""


class Counted(Protocol):
    """Counts the connections of a front."""

    def count_connections(self, change: int) -> None:
        """So many more are open."""

    def count_closed(self, reason: str) -> None:
        """A connection is being closed by us."""

    def write(self) -> None:
        """Write what has been noted in this turn."""


class Listener(ABC):
    """Owns a port and the connections on it."""

    def __init__(
        self,
        *,
        metrics: Counted,
        limits: FrontLimits,
        behind: PassedThrough,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`behind`: takes the calls of all methods that are not served here."""
        self.limits = limits
        self.now_s = clock
        self.jitter = jitter
        self.counted = metrics
        # What has not come whole, the oldest first.
        self.half_opened: dict[HalfOpen, None] = {}
        self._behind = behind
        self._connections: set[Connection] = set()
        self._to_flush: list[Flushed] = []
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._mesh: MeshTls | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._draining = False
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    # -- what a kind of front does ---------------------------------------------------------------

    @abstractmethod
    def protocol(self) -> asyncio.Protocol:
        """Return what a new connection is read by."""

    @abstractmethod
    def open(
        self,
        connection: ServerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        timeout_s: float,
        now_s: float,
    ) -> Stream | None:
        """Let a call in; None if it has been refused."""

    # -- its life --------------------------------------------------------------------------------

    async def listen(
        self, listen: str, *, context: ssl.SSLContext | None, mesh: MeshTls | None
    ) -> int:
        """Serve on "host:port"; returns the port bound. Raises CannotListen if it cannot be.

        Args:
            context: of TLS; None: of the mesh, if there is one, or else in clear.
            mesh: callers prove their stage, and call what it may.
        """
        host, _, port = listen.rpartition(":")
        self._mesh = mesh
        if context is None and mesh is not None:
            context = mesh.server_context()
        try:
            self._server = await self._loop.create_server(
                self.protocol, ssl=context, **_where(host.strip("[]"), int(port))
            )
        except (OSError, OverflowError) as error:
            raise CannotListen(listen) from error
        self._sweep_later()
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, timeout_s: float) -> None:
        """Take no new call, end what would go on for long, and let the rest finish."""
        begun_s = self.now_s()
        self._draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.retire("stopping", grace_s=timeout_s, at_once=True)
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_gone.wait()
        except TimeoutError:
            log.warning("connections do not end", connections=len(self._connections))
        log.info("front drained", seconds=round(self.now_s() - begun_s, 3))

    async def close(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._connections):
            connection.give_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._all_gone.wait()
        for connection in list(self._connections):
            connection.abort()
        self._behind.close()
        await self._all_gone.wait()
        self.counted.write()

    # -- what connections tell -------------------------------------------------------------------

    def accept(self, connection: Connection) -> bool:
        """Whether there is room for a new connection."""
        if self._draining or len(self._connections) >= self.limits.connections_max:
            self.counted.count_closed("too_many")
            return False
        self._connections.add(connection)
        self.counted.count_connections(1)
        self._all_gone.clear()
        return True

    def caller_at(self, transport: asyncio.BaseTransport) -> Caller | None:
        """Who is at the other end; None while everybody may call everything."""
        mesh = self._mesh
        return None if mesh is None else mesh.caller_at(transport.get_extra_info("ssl_object"))

    def refuses_caller(
        self, connection: ServerConnection, event: RequestReceived, path: bytes
    ) -> bool:
        """Refuse a call that its caller may not make; returns whether it has been refused."""
        caller = connection.caller
        if caller is None:
            return False
        name = path.decode("latin-1")
        if caller.may_call(name):
            return False
        refusal = statuses.failure(caller.refusal(name))
        connection.answer(event.stream_id, refusal, whole=event.end_stream)
        return True

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.counted.count_connections(-1)
            if not self._connections:
                self._all_gone.set()

    def half_open(self, stream: HalfOpen) -> None:
        """A request has begun and is not whole; the oldest one goes if there are too many."""
        self.half_opened[stream] = None
        if len(self.half_opened) > self.limits.half_open_max:
            self._expire(next(iter(self.half_opened)))

    def to_flush(self, connection: Flushed) -> None:
        """Have a connection written to at the end of this turn."""
        self._to_flush.append(connection)
        if len(self._to_flush) == 1:
            self._loop.call_soon(self._flush)

    # -- every turn, every second ----------------------------------------------------------------

    def _flush(self) -> None:
        """Write what this turn has to say, once a connection."""
        connections, self._to_flush = self._to_flush, []
        for connection in connections:
            connection.flush()
        self.counted.write()

    def _sweep_later(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self.sweep()
        self._sweep_later()

    def sweep(self) -> None:
        """Close what is silent, stuck or old, and give up requests that do not come."""
        now_s = self.now_s()
        limits = self.limits
        late_s = now_s - limits.request_timeout_s
        for stream in list(self.half_opened):
            if stream.opened_s > late_s:
                break
            self._expire(stream)
        crowded = len(self._connections) >= CROWDED_SHARE * limits.connections_max
        idle_s = min(CROWDED_IDLE_S, limits.idle_timeout_s) if crowded else limits.idle_timeout_s
        for connection in list(self._connections):
            connection.check(now_s, idle_s)
        self.counted.write()

    def _expire(self, stream: HalfOpen) -> None:
        self.half_opened.pop(stream, None)
        stream.expire()
