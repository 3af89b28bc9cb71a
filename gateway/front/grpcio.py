"""The same handlers on grpc.aio alone: what arrives within one turn of the loop is a batch.

For platforms without the wheel of the other front, and to tell whether a fault is the front's.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from gateway.front.call import REQUEST_BYTES_MAX, BatchedMethod
from gateway.front.load import TimedAdmission
from gateway.front.queue import CallQueue, QueuedCall
from seckill.errors import SeckillError
from seckill.front.messages import too_large
from seckill.runtime import tracing
from seckill.runtime.server import Health, Register, serving
from seckill.runtime.settings import ProcessSettings

# Only what is not compressed: gRPC would inflate it before its size is known.
IDENTITY_ONLY = ("grpc.compression_enabled_algorithms_bitset", 1)


class _GrpcioCall(QueuedCall):
    """A call whose coroutine waits for the answer."""

    __slots__ = ("_metadata", "answer")

    def __init__(
        self, index: int, payload: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        self._metadata = tuple(context.invocation_metadata() or ())
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        authorization = self.metadata("authorization")
        self.index = index
        self.payload = payload
        self.peer = context.peer()
        self.authorization = None if authorization is None else authorization.encode()

    def metadata(self, key: str) -> str | None:
        values = [str(value) for name, value in self._metadata if name == key]
        return ",".join(values) if values else None

    def open(self) -> None:
        if len(self.payload) > REQUEST_BYTES_MAX:
            raise too_large(REQUEST_BYTES_MAX)

    def respond(self, payload: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(payload)

    def fail(self, error: SeckillError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class GrpcioFront:
    """Queues calls as the other front does. Metrics and statuses are the server's interceptor's."""

    def __init__(self, methods: Sequence[BatchedMethod], *, admission: TimedAdmission) -> None:
        self._methods = methods
        self.queue = CallQueue(methods, admission)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the batched methods to a server, before any servicer that has them too."""
        server.add_generic_rpc_handlers((_Paths(self._methods, self._behavior),))

    def _behavior(self, index: int) -> Callable[..., Awaitable[bytes]]:
        async def handle(payload: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            left_s = context.time_remaining()
            timeout_s = math.inf if left_s is None else left_s
            queue = self.queue
            if queue.refuses(index, timeout_s):
                raise queue.refusal()
            call = _GrpcioCall(index, payload, context)
            tracer, span = tracing.tracer, tracing.current()
            if tracer is not None and span is not None:
                tracer.live[call] = span
            queue.enter(call, timeout_s=timeout_s, now_s=time.monotonic())
            queue.complete(call, len(payload) + 1)
            answered = False
            try:
                answer = bytes(await call.answer)
                answered = True
            except SeckillError:
                answered = True
                raise
            finally:
                queue.leave(call, answered=answered)
                if tracer is not None:
                    tracer.live.pop(call, None)
            return answer

        return handle


class _Paths(grpc.GenericRpcHandler):
    """Batched methods by path, with bytes for requests and responses."""

    def __init__(
        self,
        methods: Sequence[BatchedMethod],
        behavior: Callable[[int], Callable[..., Awaitable[bytes]]],
    ) -> None:
        self._handlers: dict[str, Any] = {
            method.path: grpc.unary_unary_rpc_method_handler(behavior(index))
            for index, method in enumerate(methods)
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


@asynccontextmanager
async def grpcio_front(
    listen: str,
    methods: Sequence[BatchedMethod],
    register: Register,
    *,
    settings: ProcessSettings,
    admission: TimedAdmission,
    credentials: grpc.ServerCredentials | None,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """As `http2_front`, without it; HTTP/2's own bounds are gRPC's."""
    front = GrpcioFront(methods, admission=admission)

    def register_all(server: grpc.aio.Server) -> None:
        front.register(server)
        register(server)

    front.queue.start()
    try:
        async with serving(
            listen,
            register_all,
            settings=settings,
            health_state=health_state,
            services=services,
            credentials=credentials,
            options=[IDENTITY_ONLY],
            passed_on=False,
        ) as port:
            yield port
    finally:
        front.queue.stop()
