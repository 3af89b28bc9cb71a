"""The grpc.aio server that every stage uses: health, reflection, metrics, faults as statuses."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from seckill.errors import DeadlinePassed, OutcomeUnknown, SeckillError, trailing_metadata
from seckill.listening import CannotListen
from seckill.reflection import enable_reflection
from seckill.settings import ProcessSettings
from seckill.telemetry import CallOutcome, MethodMetrics, server_metrics

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
PENDING_CALLS_MAX = 20_000
# Health service name that says only that the process runs: for liveness probes.
LIVE = "live"

Register = Callable[[grpc.aio.Server], None]
log = structlog.get_logger()


def time_left_s(context: grpc.aio.ServicerContext[Any, Any], most_s: float) -> float:
    """Seconds that a call to the next stage may take.

    What is left of the caller's deadline less a tenth, so that our own answer still arrives, and
    at most `most_s`. Raises DeadlinePassed where nothing is left.
    """
    left_s: float | None = cast("float | None", context.time_remaining())
    if left_s is None:
        return most_s
    if left_s <= 0:
        raise DeadlinePassed
    return float(min(most_s, left_s * 0.9))


class FaultsAndMetrics(grpc.aio.ServerInterceptor):
    """Counts each call, and turns what it raises into a status with details."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        metrics = server_metrics.method(
            handler_call_details.method, streaming=handler.response_streaming
        )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _streaming(handler.unary_stream, metrics),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary, metrics),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _unary(behavior: Callable[..., Awaitable[Any]], metrics: MethodMetrics) -> Callable[..., Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with metrics.call() as outcome:
            metrics.received.inc()
            try:
                response = await behavior(request, context)
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(error, context, outcome)
            outcome.code = _status(context)
            metrics.sent.inc()
            return response

    return handle


def _streaming(behavior: Callable[..., Any], metrics: MethodMetrics) -> Callable[..., Any]:
    """Wrap a handler that yields its replies, or one that writes them to the context."""

    async def write(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        with metrics.call() as outcome:
            metrics.received.inc()
            try:
                await behavior(request, context)
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(error, context, outcome)
            outcome.code = _status(context)

    async def produce(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with metrics.call() as outcome:
            metrics.received.inc()
            try:
                async for response in behavior(request, context):
                    metrics.sent.inc()
                    yield response
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(error, context, outcome)
            outcome.code = _status(context)

    return produce if inspect.isasyncgenfunction(behavior) else write


def _status(context: grpc.aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    # The stubs leave out that the code is None until somebody sets one.
    return cast("grpc.StatusCode | None", context.code()) or grpc.StatusCode.OK


def is_ended(error: BaseException) -> bool:
    """Whether `error` ends the task that it is raised in, e.g. because the caller has left.

    Libraries let cancellations of their own tasks out, which are faults like any other.
    """
    task = asyncio.current_task()
    ending = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and ending


def fault_of(error: BaseException) -> SeckillError:
    """What the caller is told of whatever was raised while his call was handled."""
    if isinstance(error, SeckillError):
        return error
    if isinstance(error, asyncio.CancelledError):
        # Not passed on: gRPC would send nothing, and the caller wait for as long as it can.
        return OutcomeUnknown("the work was given up within the stage")
    return SeckillError()


async def _abort(
    error: BaseException,
    context: grpc.aio.ServicerContext[Any, Any],
    outcome: CallOutcome,
) -> None:
    """End the call with the status that `error` means; always raises."""
    if isinstance(error, GeneratorExit) or is_ended(error):
        outcome.code = grpc.StatusCode.CANCELLED
        raise error
    if isinstance(error, grpc.aio.AbortError):
        outcome.code = context.code()
        raise error
    fault = fault_of(error)
    if fault is not error:
        log.error("call failed", exc_info=error)
    outcome.code = fault.code
    await context.abort(fault.code, str(fault), trailing_metadata=trailing_metadata(fault))


class _HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's servicer, whose watches can be ended: they never end by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._watching: set[asyncio.Task[None]] = set()

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
        await super().Watch(request, context)

    def end_watches(self) -> None:
        for task in self._watching:
            task.cancel()


class Health:
    """What grpc.health.v1 answers: readiness under "" and each service, liveness under "live"."""

    def __init__(self, services: Sequence[str]) -> None:
        """`services`: full names, e.g. "seckill.v1.OrderService"."""
        self.servicer = _HealthServicer()
        self._names = ("", *services)
        self.ready = False

    async def begin(self) -> None:
        """Alive, not ready."""
        await self.servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(False)

    async def set_ready(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, status.SERVING if ready else status.NOT_SERVING)
        self.ready = ready


@asynccontextmanager
async def serving(
    listen: str,
    register: Register,
    *,
    settings: ProcessSettings,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """Serve gRPC on `listen` until the context ends, then let calls under way finish.

    Args:
        listen: "host:port" or "unix:path"; port 0 takes a free one.
        register: adds the servicers.
        services: full names, for reflection.

    Yields:
        The port bound.

    Raises:
        CannotListen: `listen` cannot be bound.
    """
    server = grpc.aio.server(
        interceptors=[FaultsAndMetrics()],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_connection_age_ms", int(settings.connection_age_max_s * 1000)),
            ("grpc.max_connection_age_grace_ms", int(settings.drain_timeout_s * 1000)),
            # Our own clients ping every 20 s (channel.py); nobody may ping more often than 10 s.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.so_reuseport", 0),
            # gRPC cancels calls at random once 1,000 wait to be begun; a crowd is more than that.
            ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
            ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
        ],
    )
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
    if settings.reflection:
        enable_reflection((*services, health.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise CannotListen(listen) from error
    await health_state.begin()
    await server.start()
    try:
        yield port
    finally:
        begun_s = time.monotonic()
        # Else a client that watches our health would hold the drain up to its end.
        health_state.servicer.end_watches()
        await server.stop(settings.drain_timeout_s)
        log.info("server drained", seconds=round(time.monotonic() - begun_s, 3))
