"""The front: what arrives in one turn of the loop becomes a batch.

A call that would wait too long is refused as soon as its headers are read, before it is an object,
and under a flood before the library has decoded it (sieve.py).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import grpc

from gateway.front.call import BatchedMethod
from gateway.front.call_spans import TracedFrontMetrics
from gateway.front.connection import CallerConnection
from gateway.front.first_bytes import FirstBytes
from gateway.front.front_metrics import FrontMetrics
from gateway.front.http2_call import Http2Call
from gateway.front.load import TICK_S, TimedAdmission
from gateway.front.queue import CallQueue
from gateway.front.refusals import overload_refusals
from gateway.front.rest.door import JsonDoor
from gateway.front.rest.exchange import Exchange
from gateway.front.rest.http2 import Http2Exchange
from gateway.front.sieve import EncodedRefusal
from gateway.front.tls import Certificate
from seckill.errors import OVERLOADED_WAIT_S
from seckill.front import statuses
from seckill.front.connection import ServerConnection
from seckill.front.limits import FrontLimits
from seckill.front.listener import Listener
from seckill.front.passthrough import PassedThrough
from seckill.front.stream import Stream
from seckill.runtime import tracing
from seckill.runtime.callers import Caller
from seckill.runtime.http2.engine import RequestReceived, encoded_values
from seckill.runtime.mesh_tls import MeshTls


class Http2Front(Listener):
    """Serves callers, and owns the queue of their calls."""

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
        self.metrics = (
            FrontMetrics(methods, clock=clock)
            if tracing.tracer is None
            else TracedFrontMetrics(tracing.tracer, methods, clock=clock)
        )
        super().__init__(
            metrics=self.metrics, limits=limits, behind=behind, clock=clock, jitter=jitter
        )
        self.admission = admission
        self.queue = CallQueue(methods, admission, on_batch=self.metrics.begin_batch, clock=clock)
        self.sieve_patterns = [
            (pattern, index)
            for index, method in enumerate(methods)
            if not method.urgent
            for pattern in encoded_values(method.path.encode())
        ]
        self.sieve_contents = encoded_values(statuses.GRPC)
        self._methods = methods
        self._index = {method.path.encode(): index for index, method in enumerate(methods)}
        self._door = (
            JsonDoor(methods, queue=self.queue, metrics=self.metrics, behind=behind)
            if speaks_json
            else None
        )
        self._resting: list[CallerConnection] = []
        self._refusals: tuple[EncodedRefusal, ...] = ()
        self._refusals_until_s = 0.0
        self._certificate: Certificate | None = None

    # -- its life --------------------------------------------------------------------------------

    async def serve(
        self, listen: str, certificate: Certificate | None, mesh: MeshTls | None = None
    ) -> int:
        """As `listen`, and begin to measure; `certificate`: of a front that buyers call."""
        self._certificate = certificate
        context = None if certificate is None else certificate.context
        port = await self.listen(listen, context=context, mesh=mesh)
        self.queue.start()
        return port

    def protocol(self) -> CallerConnection | FirstBytes:
        return CallerConnection(self) if self._door is None else FirstBytes(self)

    async def close(self) -> None:
        self.queue.stop()
        await super().close()
        if self._door is not None:
            await self._door.close()

    def sweep(self) -> None:
        super().sweep()
        if self._certificate is not None:
            self._certificate.reload()

    # -- what connections tell -------------------------------------------------------------------

    def open(
        self,
        connection: ServerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        timeout_s: float,
        now_s: float,
    ) -> Stream | None:
        is_grpc = statuses.is_grpc(named)
        if self._door is not None and not is_grpc:
            return self._open_json(connection, event, named, now_s)
        path = named.get(b":path", b"")
        index = self._index.get(path)
        if self.refuses_caller(connection, event, path):
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
        call = Http2Call(cast("CallerConnection", connection), event, named, index)
        call.opened_s = now_s
        self.queue.enter(call, timeout_s=timeout_s, now_s=now_s)
        return call

    def _open_json(
        self,
        connection: ServerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        now_s: float,
    ) -> Stream | None:
        exchange = Http2Exchange(cast("CallerConnection", connection), event, named, now_s=now_s)
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

    def refusals(self) -> tuple[EncodedRefusal, ...]:
        """What refused callers are told: the wait that is predicted now, in several variants."""
        now_s = self.now_s()
        if now_s >= self._refusals_until_s:
            self._refusals_until_s = now_s + TICK_S
            wait_s = self.admission.retry_wait_s(OVERLOADED_WAIT_S)
            self._refusals = overload_refusals(wait_s)
        return self._refusals

    def rest(self, connection: CallerConnection) -> None:
        """Wake a connection in a moment, with the others that rest by then."""
        self._resting.append(connection)
        if len(self._resting) == 1:
            self._loop.call_later(self.admission.rest_s, self._wake)

    def _wake(self) -> None:
        resting, self._resting = self._resting, []
        for connection in resting:
            connection.wake()
