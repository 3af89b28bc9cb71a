"""The grpc.aio server that every service uses: health, reflection, metrics, faults as statuses."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from seckill.errors import DeadlinePassed, InvalidField
from seckill.runtime import request_ids
from seckill.runtime.faults import fault_of, is_ended
from seckill.runtime.listening import CannotListen
from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.reflection import enable_reflection
from seckill.runtime.server_spans import TracedCall, open_call
from seckill.runtime.settings import ProcessSettings
from seckill.runtime.streams import OpenStreams
from seckill.runtime.telemetry import CallOutcome, MethodMetrics, server_metrics
from seckill.status import trailing_metadata

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 16 * 1024
PENDING_CALLS_MAX = 20_000
# How long a server that is not ready any more still takes calls, before it says GOAWAY.
NOTICE_S = 0.2
# Health service name that is SERVING as long as the process runs: for liveness probes.
LIVE = "live"

Register = Callable[[grpc.aio.Server], None]
Decode = Callable[[Any], Any]
CallMetrics = MethodMetrics | TracedCall
# Raises NotAllowed if the caller of this context may not make the call.
Admit = Callable[[grpc.aio.ServicerContext[Any, Any]], None]
log = structlog.get_logger()

# (does the request stream?, does the response stream?) → what makes a handler of that shape.
_MAKE_HANDLER: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Deadline(Protocol):
    """What a handler may ask of a call on any kind of server: a part of gRPC's context."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None without one."""


def time_left_s(context: Deadline, most_s: float) -> float:
    """Return the seconds that a call to the next service may take.

    That is what is left of the caller's deadline, less a tenth so that our own answer still
    arrives, and at most `most_s`.

    Raises:
        DeadlinePassed: nothing is left.
    """
    left_s = context.time_remaining()
    if left_s is None:
        return most_s
    if left_s <= 0:
        raise DeadlinePassed
    return float(min(most_s, left_s * 0.9))


class FaultsAndMetrics(grpc.aio.ServerInterceptor):
    """Names and counts each call, refuses callers who may not make it, and turns whatever it raises
    into a status with details.

    Requests are decoded inside the wrapped handler: gRPC itself answers a malformed one with
    UNKNOWN and the name of a Python class.

    Attributes:
        streams: what the server has open.
    """

    def __init__(self, mesh: MeshTls | None = None, *, passed_on: bool = True) -> None:
        """Make one.

        Args:
            mesh: knows who calls; with None everybody may call everything.
            passed_on: callers are services of the mesh, which have named their calls.
        """
        self.streams = OpenStreams()
        self._mesh = mesh
        self._passed_on = passed_on

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # This task serves the one call.
        metadata = handler_call_details.invocation_metadata or ()
        request_ids.bind_from(metadata, passed_on=self._passed_on)
        path = handler_call_details.method
        method = server_metrics.method(
            path,
            streaming=handler.response_streaming,
            request_streaming=handler.request_streaming,
        )
        metrics = open_call(path, metadata, method)
        decode = partial(
            _decode_each if handler.request_streaming else decode_request,
            handler.request_deserializer,
            metrics,
        )
        behavior = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        admit = None
        if self._mesh is not None:
            admit = partial(self._mesh.check_caller, path=handler_call_details.method)
        handle = (
            _streaming(behavior, decode, metrics, admit, self.streams)
            if handler.response_streaming
            else _unary(behavior, decode, metrics, admit)
        )
        return _MAKE_HANDLER[handler.request_streaming, handler.response_streaming](
            handle, response_serializer=handler.response_serializer
        )


def decode_request(deserialize: Decode | None, metrics: CallMetrics, payload: bytes) -> Any:
    """Return the request; raise InvalidField if `payload` is none."""
    metrics.received.inc()
    if deserialize is None:
        return payload
    try:
        return deserialize(payload)
    except (DecodeError, ValueError) as error:
        # Generated classes deserialize by their own `FromString`.
        name = getattr(getattr(deserialize, "__self__", None), "__name__", "message")
        raise InvalidField([("request", f"is not a serialized {name}")]) from error


async def _decode_each(
    deserialize: Decode | None, metrics: CallMetrics, payloads: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for payload in payloads:
        yield decode_request(deserialize, metrics, payload)


def _unary(
    behavior: Callable[..., Awaitable[Any]],
    decode: Decode,
    metrics: CallMetrics,
    admit: Admit | None,
) -> Callable[..., Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with metrics.call() as outcome:
            try:
                if admit is not None:
                    admit(context)
                response = await behavior(decode(request), context)
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(error, context, outcome)
            outcome.code = _status(context)
            metrics.sent.inc()
            return response

    return handle


def _streaming(
    behavior: Callable[..., Any],
    decode: Decode,
    metrics: CallMetrics,
    admit: Admit | None,
    streams: OpenStreams,
) -> Callable[..., Any]:
    """Wrap a handler that yields its responses, or one that writes them to the context."""

    async def write(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        with metrics.call() as outcome, streams.opened() as stream:
            try:
                stream.check()
                if admit is not None:
                    admit(context)
                await behavior(decode(request), context)
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(stream.fault(error), context, outcome)
            outcome.code = _status(context)

    async def produce(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with metrics.call() as outcome, streams.opened() as stream:
            try:
                stream.check()
                if admit is not None:
                    admit(context)
                async for response in behavior(decode(request), context):
                    metrics.sent.inc()
                    stream.sending = True
                    yield response
                    stream.sending = False
                    stream.check()
            except BaseException as error:  # noqa: BLE001 - every fault becomes a status
                await _abort(stream.fault(error), context, outcome)
            outcome.code = _status(context)

    return produce if inspect.isasyncgenfunction(behavior) else write


def _status(context: grpc.aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    # The stubs leave out that the code is None until one is set.
    return cast("grpc.StatusCode | None", context.code()) or grpc.StatusCode.OK


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
    outcome.code = fault.code
    await context.abort(fault.code, str(fault), trailing_metadata=trailing_metadata(fault))


class Health:
    """The answers of grpc.health.v1: readiness under "" and each service, liveness under "live"."""

    def __init__(self, services: Sequence[str]) -> None:
        """`services`: full names, e.g. "seckill.v1.OrderService"."""
        self.servicer = health.aio.HealthServicer()
        self._names = ("", *services)
        self.ready = False

    async def begin(self) -> None:
        """Say that the process is alive and not yet ready."""
        await self.servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(False)

    async def set_ready(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, status.SERVING if ready else status.NOT_SERVING)
        self.ready = ready


def _server_options(listen: str, settings: ProcessSettings) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        # Between two limits gRPC refuses at random; what we judge ourselves must come in.
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        # Our own clients ping every 20 s (channel.py); no client may ping more often than 10 s.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
        # gRPC cancels calls at random once 1,000 wait for a handler; a crowd is more than that.
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
    ]
    if not listen.startswith("unix:"):  # there is no other replica at the end of a socket
        options += [
            # gRPC varies each connection's age by up to a tenth, so that they do not end together.
            ("grpc.max_connection_age_ms", int(settings.connection_age_max_s * 1000)),
            ("grpc.max_connection_age_grace_ms", int(settings.connection_grace_s * 1000)),
        ]
    return options


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise CannotListen(listen) from error


@asynccontextmanager
async def serving(
    listen: str,
    register: Register,
    *,
    settings: ProcessSettings,
    health_state: Health,
    services: Sequence[str],
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, int]] = (),
    passed_on: bool = True,
) -> AsyncIterator[int]:
    """Serve gRPC on `listen` until the context ends, then end streams and let calls finish.

    Args:
        listen: "host:port" or "unix:path"; port 0 takes a free one.
        register: adds the servicers.
        settings: for reflection, the drain and the age of connections, and the mesh's TLS: with it
            callers prove their stage, and are told no where callers.py does not name it.
        health_state: served as grpc.health.v1.
        services: full names, for reflection.
        credentials: of a certificate that callers see in place of the mesh's.
        options: of the server, beside those that all services have.
        passed_on: callers are services of the mesh, which have named their calls.

    Yields:
        The port bound.

    Raises:
        CannotListen: `listen` cannot be bound.
    """
    mesh = settings.mesh_tls()
    interceptor = FaultsAndMetrics(mesh, passed_on=passed_on)
    server = grpc.aio.server(
        interceptors=[interceptor], options=[*_server_options(listen, settings), *options]
    )
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
    if settings.reflection and settings.profile == "development":
        enable_reflection((*services, health.SERVICE_NAME), server)
    if mesh is not None and credentials is None and not listen.startswith("unix:"):
        credentials = mesh.server_credentials()
    port = _bind(server, listen, credentials)
    if settings.mesh_tls_probe_listen:
        _bind(server, settings.mesh_tls_probe_listen, None)
    await health_state.begin()
    await server.start()
    try:
        yield port
    finally:
        started_s = time.monotonic()
        if interceptor.streams.count:
            # Callers who watch our health go to other replicas first: gRPC cancels what crosses its
            # GOAWAY.
            await asyncio.sleep(min(NOTICE_S, settings.drain_timeout_s))
        # After GOAWAY, so that who watches again asks another replica; streams would delay the
        # drain to its very end.
        asyncio.get_running_loop().call_soon(interceptor.streams.end)
        await server.stop(settings.drain_timeout_s)
        log.info("server drained", seconds=round(time.monotonic() - started_s, 3))
