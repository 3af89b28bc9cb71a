"""A channel for unary calls on our own HTTP/2, at a fraction of what grpc.aio takes for each.

It does what `seckill.runtime.channel` has gRPC do: the same balancing, keepalive, pauses, breaker,
metrics, names of calls and TLS, and the same errors.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakSet

import grpc
from google.protobuf.message import DecodeError, Message

from seckill.runtime import tracing
from seckill.runtime.callers import stage_of_service
from seckill.runtime.http2.answers import failed, never_sent
from seckill.runtime.http2.balancing import Balancer, NoReplica
from seckill.runtime.http2.engine import EngineError, Headers
from seckill.runtime.http2.replica import Replica, ReplicaConnection
from seckill.runtime.http2.targets import Address, Target, parse_target
from seckill.runtime.http2.unary_call import NotHandled, UnaryCall
from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.watched_calls import WatchedCalls, WatchedMethod
from seckill.version import VERSION

# How long a connection may take until the server has greeted.
CONNECT_S = 5.0
# Replicas that a call is sent to, as long as each has surely not handled it.
TRIES_MAX = 3
# The largest number that grpc-timeout has digits for.
_TIMEOUT_MS_MAX = 99_999_999

ResponseT = TypeVar("ResponseT", bound=Message)


class Http2Channel:
    """Connections to all replicas of a service, and calls on them."""

    def __init__(self, target: Target, *, service: str, mesh: MeshTls | None, breaks: bool) -> None:
        self._mesh = mesh
        self._contents = None if mesh is None else mesh.contents()
        self._host = None if mesh is None else mesh.name_of(stage_of_service(service))
        self._watched = WatchedCalls(service, breaks=breaks)
        self._balancer = Balancer(target, self._connect, service=service)
        # Connections that may still be open, also those that only end their calls.
        self._connections: WeakSet[ReplicaConnection] = WeakSet()
        self._pseudo_fields: Headers = (
            (b":method", b"POST"),
            (b":scheme", b"http" if mesh is None else b"https"),
            (b":authority", (self._host or target.authority).encode()),
        )
        self._fields: Headers = (
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", f"seckill/{VERSION}".encode()),
        )

    def start(self) -> None:
        """Connect from now on."""
        self._balancer.start()

    async def close(self) -> None:
        """End all connections, with the calls on them."""
        await self._balancer.close()
        for connection in list(self._connections):
            connection.hang_up()

    def unary(self, path: str, response: type[ResponseT]) -> "UnaryMethod[ResponseT]":
        """Return a method to call; `path`: "/package.Service/Method"."""
        fields = (*self._pseudo_fields, (b":path", path.encode()), *self._fields)
        return UnaryMethod(self, fields, response, self._watched.method(path))

    async def exchange(self, fields: Headers, message: bytes, timeout_s: float) -> bytes:
        """Send a request and return its answer; `fields`: all but the time and the call's names.

        Raises:
            NeverSent: no replica has begun to handle it.
            AioRpcError: any other failure.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        named = tuple((name.encode(), value.encode()) for name, value in tracing.outgoing())
        for _ in range(TRIES_MAX):
            replica = await self._replica(deadline_s)
            left_ms = math.ceil((deadline_s - loop.time()) * 1000)
            timeout = b"%dm" % min(max(left_ms, 1), _TIMEOUT_MS_MAX)
            call = _begin(replica, (*fields, (b"grpc-timeout", timeout), *named), message)
            if call is None:
                continue
            timer = loop.call_at(deadline_s, call.expire)
            try:
                answer = await call.result
            except NotHandled:
                continue
            except grpc.aio.AioRpcError:
                replica.standing.failed += 1
                raise
            finally:
                timer.cancel()
                call.leave()
            replica.standing.answered += 1
            return answer
        raise never_sent(grpc.StatusCode.UNAVAILABLE, "no replica takes the call")

    async def _replica(self, deadline_s: float) -> Replica:
        """Return the replica whose turn it is. Raises NeverSent if there is none in time."""
        contents = None if self._mesh is None else self._mesh.contents()
        if contents is not self._contents:
            self._contents = contents
            self._balancer.renew()
        replica = self._balancer.pick()
        if replica is not None:
            return replica
        try:
            return await self._balancer.wait(deadline_s)
        except NoReplica as error:
            raise never_sent(
                grpc.StatusCode.UNAVAILABLE, f"failed to connect to any replica: {error}"
            ) from error
        except TimeoutError as error:
            raise never_sent(
                grpc.StatusCode.DEADLINE_EXCEEDED, "no replica was connected in time"
            ) from error

    async def _connect(self, address: Address) -> ReplicaConnection:
        """Return a connection whose server has greeted. Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        context = None if self._mesh is None else self._mesh.client_context()
        connection = ReplicaConnection()
        self._connections.add(connection)
        try:
            async with asyncio.timeout(CONNECT_S):
                if address.path:
                    await loop.create_unix_connection(
                        lambda: connection, address.path, ssl=context, server_hostname=self._host
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        address.host,
                        address.port,
                        ssl=context,
                        server_hostname=self._host,
                    )
                await connection.settled.wait()
            if not connection.greeted:
                raise ConnectionError("the connection ended before HTTP/2 was spoken")
        except BaseException:
            connection.hang_up()
            raise
        return connection


def _begin(replica: Replica, fields: Headers, message: bytes) -> UnaryCall | None:
    """Begin a call; None if the connection takes none any more."""
    connection = replica.connection
    if connection is None:
        return None
    try:
        return UnaryCall(connection, fields, message)
    except EngineError:
        connection.leave()
        return None


class UnaryMethod(Generic[ResponseT]):
    """A method of a service, called as one of a stub is."""

    def __init__(
        self,
        channel: Http2Channel,
        fields: Headers,
        response: type[ResponseT],
        watched: WatchedMethod,
    ) -> None:
        self._channel = channel
        self._fields = fields
        self._response = response
        self._watched = watched

    async def __call__(
        self,
        request: Message,
        *,
        timeout: float,  # noqa: ASYNC109 - as methods of stubs have it
    ) -> ResponseT:
        """Call it. Raises AioRpcError; NeverSent, which is one, if no replica has handled it."""
        with self._watched.call(timeout) as watched:
            try:
                answer = await self._channel.exchange(
                    self._fields, request.SerializeToString(), timeout
                )
                response = self._response.FromString(answer)
            except grpc.aio.AioRpcError as error:
                watched.end(error.code(), error.trailing_metadata())
                raise
            except DecodeError as error:
                watched.end(grpc.StatusCode.INTERNAL)
                broken = f"answered with something else than {self._response.DESCRIPTOR.name}"
                raise failed(grpc.StatusCode.INTERNAL, broken) from error
            watched.end(grpc.StatusCode.OK)
            return response


@asynccontextmanager
async def open_http2_channel(
    target: str, *, service: str, mesh: MeshTls | None = None, breaker: bool = True
) -> AsyncIterator[Http2Channel]:
    """Open a channel to `service` at `target`; it connects at once.

    Args:
        target: gRPC's name of the server, e.g. "dns:///host:port".
        service: full name of the service, e.g. "seckill.v1.InventoryService".
        mesh: the TLS between services; None is in clear. With it only the stage that serves
            `service` is spoken to.
        breaker: whether calls are refused while the service does not answer.

    Raises:
        ValueError: only gRPC can resolve the target.
    """
    channel = Http2Channel(parse_target(target), service=service, mesh=mesh, breaks=breaker)
    channel.start()
    try:
        yield channel
    finally:
        await channel.close()
