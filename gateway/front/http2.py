"""The front: HTTP/2 in the event loop, without threads.

Sockets are read by the loop; what arrives in one turn becomes a batch, and each connection is
written to once a turn. A call that would wait too long is refused as soon as its headers are read,
before it is an object, and under a flood before the library has decoded it (sieve.py). Methods that
are not batched go through to a grpc.aio server on a Unix socket, so that callers see one port.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import grpc
import structlog

from gateway.front import statuses
from gateway.front.call import BatchedMethod
from gateway.front.call_spans import TracedFrontMetrics
from gateway.front.connection import CallerConnection
from gateway.front.first_bytes import FirstBytes
from gateway.front.front_metrics import FrontMetrics
from gateway.front.http2_call import Http2Call
from gateway.front.limits import FrontLimits
from gateway.front.load import TICK_S, TimedAdmission
from gateway.front.passthrough import PassedThrough
from gateway.front.queue import CallQueue
from gateway.front.rest.door import JsonDoor
from gateway.front.rest.exchange import Exchange
from gateway.front.rest.http1 import Http1Connection
from gateway.front.rest.http2 import Http2Exchange
from gateway.front.sieve import EncodedRefusal
from gateway.front.stream import HalfOpen, Stream
from gateway.front.tls import Certificate
from gateway.metrics import GATEWAY_CONNECTIONS_COUNT
from seckill.errors import OVERLOADED_WAIT_S
from seckill.runtime import tracing
from seckill.runtime.callers import Caller
from seckill.runtime.http2.engine import RequestReceived, encoded_values
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

Connection = CallerConnection | Http1Connection | FirstBytes
log = structlog.get_logger()


class Http2Front:
    """Owns the listener, the connections, and the queue of calls."""

    def __init__(
        self,
        methods: Sequence[BatchedMethod],
        *,
        admission: TimedAdmission,
        limits: FrontLimits,
        behind: PassedThrough,
        speaks_json: bool,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            behind: takes the calls of all methods but `methods`.
            speaks_json: callers may speak JSON over HTTP/1.1 and 2, too.
        """
        self.limits = limits
        self.admission = admission
        self.now_s = clock
        self.jitter = jitter
        self.metrics = (
            FrontMetrics(methods, clock=clock)
            if tracing.tracer is None
            else TracedFrontMetrics(tracing.tracer, methods, clock=clock)
        )
        self.queue = CallQueue(methods, admission, on_batch=self.metrics.begin_batch, clock=clock)
        # What has not come whole, the oldest first.
        self.half_opened: dict[HalfOpen, None] = {}
        self.sieve_patterns = [
            (pattern, index)
            for index, method in enumerate(methods)
            if not method.urgent
            for pattern in encoded_values(method.path.encode())
        ]
        self.sieve_contents = encoded_values(statuses.GRPC)
        self._methods = methods
        self._index = {method.path.encode(): index for index, method in enumerate(methods)}
        self._behind = behind
        self._door = (
            JsonDoor(methods, queue=self.queue, metrics=self.metrics, behind=behind)
            if speaks_json
            else None
        )
        self._connections: set[Connection] = set()
        self._to_flush: list[CallerConnection | Http1Connection] = []
        self._resting: list[CallerConnection] = []
        self._refusals: tuple[EncodedRefusal, ...] = ()
        self._refusals_until_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._certificate: Certificate | None = None
        self._mesh: MeshTls | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._draining = False
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    # -- its life --------------------------------------------------------------------------------

    async def listen(
        self, listen: str, certificate: Certificate | None, mesh: MeshTls | None = None
    ) -> int:
        """Serve on "host:port"; returns the port bound. Raises CannotListen if it cannot be.

        `mesh`: callers prove their stage, and call what it may.
        """
        host, _, port = listen.rpartition(":")
        self._certificate = certificate
        self._mesh = mesh
        context = None if certificate is None else certificate.context
        if mesh is not None:
            context = mesh.server_context()
        try:
            self._server = await self._loop.create_server(
                self._protocol,
                host.strip("[]"),
                int(port),
                backlog=BACKLOG,
                ssl=context,
            )
        except (OSError, OverflowError) as error:
            raise CannotListen(listen) from error
        self.queue.start()
        self._sweep_later()
        return int(self._server.sockets[0].getsockname()[1])

    def _protocol(self) -> CallerConnection | FirstBytes:
        return CallerConnection(self) if self._door is None else FirstBytes(self)

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
        self.queue.stop()
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
        if self._door is not None:
            await self._door.close()
        await self._all_gone.wait()
        self.metrics.write()

    # -- what connections tell -------------------------------------------------------------------

    def accept(self, connection: Connection) -> bool:
        """Whether there is room for a new connection."""
        if self._draining or len(self._connections) >= self.limits.connections_max:
            self.metrics.count_closed("too_many")
            return False
        self._connections.add(connection)
        GATEWAY_CONNECTIONS_COUNT.inc()
        self._all_gone.clear()
        return True

    def caller_at(self, transport: asyncio.BaseTransport) -> Caller | None:
        """Who is at the other end; None while everybody may call everything."""
        mesh = self._mesh
        return None if mesh is None else mesh.caller_at(transport.get_extra_info("ssl_object"))

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        if connection in self._connections:
            self._connections.remove(connection)
            GATEWAY_CONNECTIONS_COUNT.dec()
            if not self._connections:
                self._all_gone.set()

    def open(
        self,
        connection: CallerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        timeout_s: float,
        now_s: float,
    ) -> Stream | None:
        """Let a call in; None if it has been refused."""
        is_grpc = statuses.is_grpc(named)
        if self._door is not None and not is_grpc:
            return self._open_json(connection, event, named, now_s)
        index = self._index.get(named.get(b":path", b""))
        if connection.caller is not None:
            path = named.get(b":path", b"").decode("latin-1")
            if not connection.caller.may_call(path):
                refusal = statuses.failure(connection.caller.refusal(path))
                connection.answer(event.stream_id, refusal, whole=event.end_stream)
                if index is not None:
                    self.metrics.count_unhandled(index, grpc.StatusCode.PERMISSION_DENIED)
                return None
        if index is not None and self.queue.refuses(index, timeout_s):
            refusals = self.refusals()
            fields = refusals[(event.stream_id >> 1) % len(refusals)].fields
            connection.answer(event.stream_id, fields, whole=event.end_stream)
            self.metrics.count_unhandled(index, grpc.StatusCode.RESOURCE_EXHAUSTED)
            return None
        wrong = (
            statuses.NOT_GRPC
            if not is_grpc
            else statuses.wrong_with(
                named, timeout_s, lacks_body=index is not None and event.end_stream
            )
        )
        if wrong:
            connection.answer(event.stream_id, wrong, whole=event.end_stream)
            return None
        if index is None:
            return self._behind.open(connection, event, named)
        call = Http2Call(connection, event, named, index)
        call.opened_s = now_s
        self.queue.enter(call, timeout_s=timeout_s, now_s=now_s)
        return call

    def _open_json(
        self,
        connection: CallerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        now_s: float,
    ) -> Stream | None:
        exchange = Http2Exchange(connection, event, named, now_s=now_s)
        # It may be answered at once.
        connection.streams[event.stream_id] = exchange
        method, url = (named.get(name, b"").decode("latin-1") for name in (b":method", b":path"))
        self.open_json(exchange, method=method, url=url, caller=connection.caller, now_s=now_s)
        return exchange if event.stream_id in connection.streams else None

    def open_json(
        self, exchange: Exchange, *, method: str, url: str, caller: Caller | None, now_s: float
    ) -> None:
        """Answer a request in JSON at its header fields, or give it a handler."""
        if self._door is not None:
            self._door.open(exchange, method=method, url=url, caller=caller, now_s=now_s)

    def half_open(self, stream: HalfOpen) -> None:
        """A request has begun and is not whole; the oldest one goes if there are too many."""
        self.half_opened[stream] = None
        if len(self.half_opened) > self.limits.half_open_max:
            self._expire(next(iter(self.half_opened)))

    def refusals(self) -> tuple[EncodedRefusal, ...]:
        """What refused callers are told: the wait that is predicted now, in several variants."""
        now_s = self.now_s()
        if now_s >= self._refusals_until_s:
            self._refusals_until_s = now_s + TICK_S
            wait_s = self.admission.retry_wait_s(OVERLOADED_WAIT_S)
            self._refusals = statuses.overload_refusals(wait_s)
        return self._refusals

    def to_flush(self, connection: CallerConnection | Http1Connection) -> None:
        """Have a connection written to at the end of this turn."""
        self._to_flush.append(connection)
        if len(self._to_flush) == 1:
            self._loop.call_soon(self._flush)

    def rest(self, connection: CallerConnection) -> None:
        """Wake a connection in a moment, with the others that rest by then."""
        self._resting.append(connection)
        if len(self._resting) == 1:
            self._loop.call_later(self.admission.rest_s, self._wake)

    # -- every turn, every second ----------------------------------------------------------------

    def _flush(self) -> None:
        """Write what this turn has to say, once a connection."""
        connections, self._to_flush = self._to_flush, []
        for connection in connections:
            connection.flush()
        self.metrics.write()

    def _wake(self) -> None:
        resting, self._resting = self._resting, []
        for connection in resting:
            connection.wake()

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
        if self._certificate is not None:
            self._certificate.reload()
        self.metrics.write()

    def _expire(self, stream: HalfOpen) -> None:
        self.half_opened.pop(stream, None)
        stream.expire()
