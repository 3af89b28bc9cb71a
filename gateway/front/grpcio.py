"""The same handlers on grpc.aio alone: what arrives within one turn of the loop is a batch.

For platforms without the native front, and to tell whether a fault is the front's.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from gateway.front.batches import Batches
from gateway.front.call import Call, HotMethod
from seckill.errors import SeckillError
from seckill.server import Health, Register, serving
from seckill.settings import ProcessSettings


class _GrpcioCall(Call):
    """A call whose coroutine waits for the answer."""

    __slots__ = ("_answer", "_metadata")

    def __init__(
        self,
        payload: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        answer: asyncio.Future[bytes],
    ) -> None:
        self._answer = answer
        self._metadata = tuple(context.invocation_metadata() or ())
        left_s = context.time_remaining()
        authorization = self.metadata("authorization")
        self.payload = payload
        self.peer = context.peer()
        self.authorization = None if authorization is None else authorization.encode()
        self.deadline_s = float("inf") if left_s is None else time.monotonic() + left_s
        self.cancelled = False

    def metadata(self, key: str) -> str | None:
        values = [str(value) for name, value in self._metadata if name == key]
        return ",".join(values) if values else None

    def respond(self, payload: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(payload)

    def fail(self, error: SeckillError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


class GrpcioFront:
    """Collects calls into batches. Metrics and statuses are the server's interceptor's."""

    def __init__(self, methods: Sequence[HotMethod], *, calls_max: int) -> None:
        self._methods = methods
        self._batches = Batches(calls_max=calls_max)
        self._arrived: dict[str, list[_GrpcioCall]] = {method.path: [] for method in methods}
        self._collecting = False
        self._under_way = 0

    def register(self, server: grpc.aio.Server) -> None:
        """Add the hot methods to a server, before any servicer that has them too."""
        server.add_generic_rpc_handlers((_Paths(self._methods, self._behavior),))

    def _behavior(self, method: HotMethod) -> Callable[..., Awaitable[bytes]]:
        async def handle(payload: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            answer = asyncio.get_running_loop().create_future()
            call = _GrpcioCall(payload, context, answer)
            self._arrived[method.path].append(call)
            if not self._collecting:
                self._collecting = True
                asyncio.get_running_loop().call_soon(self._start)
            self._under_way += 1
            try:
                return bytes(await answer)
            except asyncio.CancelledError:
                call.cancelled = True
                raise
            finally:
                self._under_way -= 1

        return handle

    def _start(self) -> None:
        self._collecting = False
        under_way = self._under_way - sum(map(len, self._arrived.values()))
        for method in self._methods:
            calls = self._arrived[method.path]
            if calls:
                self._arrived[method.path] = []
                self._batches.start(method, calls, under_way=under_way)
                under_way += len(calls)


class _Paths(grpc.GenericRpcHandler):
    """Hot methods by path, with bytes for requests and responses."""

    def __init__(
        self,
        methods: Sequence[HotMethod],
        behavior: Callable[[HotMethod], Callable[..., Awaitable[bytes]]],
    ) -> None:
        self._handlers: dict[str, Any] = {
            method.path: grpc.unary_unary_rpc_method_handler(behavior(method)) for method in methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


@asynccontextmanager
async def grpcio_front(
    listen: str,
    methods: Sequence[HotMethod],
    register: Register,
    *,
    settings: ProcessSettings,
    calls_max: int,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """As `native_front`, without it."""
    front = GrpcioFront(methods, calls_max=calls_max)

    def register_all(server: grpc.aio.Server) -> None:
        front.register(server)
        register(server)

    async with serving(
        listen, register_all, settings=settings, health_state=health_state, services=services
    ) as port:
        yield port
