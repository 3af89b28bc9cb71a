"""A cheap connection to the mesh: the crowd shares its cores, and must not starve it.

Unary gRPC calls over the same HTTP/2 library as the gateway's front: less than half of what
grpc.aio takes of a core, and no threads. Not for clients: no balancing.
What calls mean, and when they are repeated, is decided by seckill.client all the same.
"""

import asyncio
import base64
import math
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    GoAwayReceived,
    NGH2Error,
    ResponseReceived,
    Role,
    StreamClosed,
    TrailersReceived,
)

from seckill.client import SeckillClient
from seckill.client.flows import Ask
from seckill.client.transport import Option, recorded
from seckill.v1 import gateway_pb2

CONNECT_TIMEOUT_S = 1.0
STREAMS_AT_FIRST = 100
GLITCHES = 1_000_000
# Of a message in its frame: compressed or not, and its length.
PREFIX_BYTES = 5
SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
# The status if the connection said nothing of it.
_NO_STATUS = grpc.StatusCode.UNAVAILABLE
_CODES: dict[bytes, grpc.StatusCode] = {b"%d" % code.value[0]: code for code in grpc.StatusCode}
_RESPONSES: dict[str, type[Message]] = {
    method.name: GetMessageClass(method.output_type) for method in SERVICE.methods
}

Fields = Sequence[tuple[bytes, bytes]]


class LinkError(grpc.RpcError):
    """A call that failed, as seckill.client reads it."""

    def __init__(self, code: grpc.StatusCode, message: str, fields: Fields = ()) -> None:
        super().__init__(message)
        self._code = code
        self._message = message
        self._fields = fields

    def code(self) -> grpc.StatusCode:
        """Return its status."""
        return self._code

    def details(self) -> str:
        """Return its message."""
        return self._message

    def trailing_metadata(self) -> Any:
        """Return its metadata as (name, value); what is binary is decoded."""
        return tuple((name.decode(), _value(name, value)) for name, value in self._fields)


def _value(name: bytes, value: bytes) -> str | bytes:
    if name.endswith(b"-bin"):
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    return value.decode()


class _Call:
    """One call, and what has come of its answer."""

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.body = bytearray()
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def end(self, trailers: Fields) -> None:
        """The status has come."""
        if self.answered.done():
            return
        named = dict(trailers)
        code = _CODES.get(named.get(b"grpc-status", b""), grpc.StatusCode.UNKNOWN)
        if code is grpc.StatusCode.OK:
            self.answered.set_result(bytes(self.body[PREFIX_BYTES:]))
            return
        message = unquote(named.get(b"grpc-message", b"").decode())
        self.answered.set_exception(LinkError(code, message, trailers))

    def lose(self) -> None:
        """No status will come."""
        if not self.answered.done():
            self.answered.set_exception(LinkError(_NO_STATUS, "the connection was lost"))


class _Connection(asyncio.Protocol):
    """One connection, and its calls by their streams."""

    def __init__(self) -> None:
        self.engine = Connection(
            Role.CLIENT,
            Configuration(
                # Until the server says how many it takes; the engine keeps the others back.
                peer_max_concurrent_streams=STREAMS_AT_FIRST,
                # Answers to calls that have been given up are no attack.
                glitch_rate_limit=(GLITCHES, GLITCHES),
            ),
        )
        self.engine.initiate_connection()
        self.calls: dict[int, _Call] = {}
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._dirty = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self.engine.receive_data(data)
            events = self.engine.events()
        except NGH2Error:
            self.hang_up()
            return
        for event in events:
            if isinstance(event, GoAwayReceived | ConnectionClosed):
                self.usable = False
            elif isinstance(event, ResponseReceived | DataReceived | TrailersReceived):
                self._take(event)
            elif isinstance(event, StreamClosed):
                call = self.calls.pop(event.stream_id, None)
                if call is not None:
                    call.lose()
        self.speak()

    def _take(self, event: ResponseReceived | DataReceived | TrailersReceived) -> None:
        call = self.calls.get(event.stream_id)
        if call is None:
            return
        if isinstance(event, DataReceived):
            call.body += event.data
        elif isinstance(event, TrailersReceived) or event.end_stream:
            call.end(event.headers)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        # Nothing can be written any more, whatever uvloop's transport says of itself.
        self._transport = None
        self.usable = False
        for call in self.calls.values():
            call.lose()
        self.calls.clear()

    def speak(self) -> None:
        """There is something to write: it is written at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is to say."""
        self._dirty = False
        if self._transport is None or self._transport.is_closing():
            return
        try:
            out = self.engine.data_to_send()
        except NGH2Error:
            self.hang_up()
            return
        if out:
            self._transport.write(out)
        if not self.usable and not self.calls:
            self._transport.close()

    def hang_up(self) -> None:
        """Close the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class LinkTls:
    """PEM files with which a gateway is called that demands a certificate."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return them for a socket."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols(["h2"])
        return context

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them for gRPC."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )


class Link:
    """One connection; it is opened by the first call, and again after it was lost."""

    def __init__(
        self, target: str, *, security: ssl.SSLContext | None = None, server_name: str = ""
    ) -> None:
        """Make a link.

        Args:
            target: host:port.
            security: TLS; None is plaintext.
            server_name: whom the certificate must name; the host unless given.
        """
        self._target = target
        self._security = security
        self._server_name = server_name
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def call(
        self, method: str, request: bytes, metadata: Sequence[tuple[str, str]], timeout_s: float
    ) -> bytes:
        """Return the serialized response of a unary call of the gateway. Raises LinkError."""
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._usable() or await self._open()
                call = self._send(connection, method, request, metadata, timeout_s)
                try:
                    return await call.answered
                finally:
                    _leave(connection, call)
        except TimeoutError:
            raise LinkError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except (OSError, NGH2Error) as error:
            raise LinkError(_NO_STATUS, str(error)) from error

    async def connect(self) -> None:
        """Open the connection now, unless it is; raises LinkError."""
        try:
            self._usable() or await self._open()
        except (OSError, TimeoutError, NGH2Error) as error:
            raise LinkError(_NO_STATUS, str(error)) from error

    async def call_together(
        self,
        method: str,
        calls: Iterable[tuple[bytes, Sequence[tuple[str, str]]]],
        timeout_s: float,
    ) -> list[bytes | LinkError]:
        """Make many calls, written at once: (request, metadata) each; return what came of them.

        Raises:
            LinkError: there is no connection.
        """
        await self.connect()
        connection = await self._open()
        # Nothing is written before this turn of the loop is over.
        sent = [
            self._send(connection, method, request, metadata, timeout_s)
            for request, metadata in calls
        ]
        waiting = [call.answered for call in sent]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        answers = [_answer_of(call) for call in sent]
        for call in sent:
            _leave(connection, call)
        return answers

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.hang_up()

    def _usable(self) -> _Connection | None:
        connection = self._connection
        usable = connection and connection.usable and connection.engine.can_send_request
        return connection if usable else None

    async def _open(self) -> _Connection:
        async with self._opening:
            connection = self._usable()
            if connection is None:
                host, _, port = self._target.rpartition(":")
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        _Connection,
                        host.strip("[]"),
                        int(port),
                        ssl=self._security,
                        server_hostname=(self._server_name or None) if self._security else None,
                    )
                self._connection = connection
            return connection

    def _send(
        self,
        connection: _Connection,
        method: str,
        request: bytes,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> _Call:
        stream_id = connection.engine.send_request(
            (
                (b":method", b"POST"),
                (b":scheme", b"https" if self._security else b"http"),
                (b":path", f"/{SERVICE.full_name}/{method}".encode()),
                (b":authority", self._target.encode()),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"grpc-timeout", b"%dm" % math.ceil(timeout_s * 1000)),
                *((name.encode(), value.encode()) for name, value in metadata),
            ),
            end_stream=False,
        )
        call = connection.calls[stream_id] = _Call(stream_id)
        body = b"\0" + len(request).to_bytes(4, "big") + request
        connection.engine.send_data(stream_id, body, end_stream=True)
        connection.speak()
        return call


def _answer_of(call: _Call) -> bytes | LinkError:
    if not call.answered.done():
        return LinkError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    error = call.answered.exception()
    return error if isinstance(error, LinkError) else call.answered.result()


def _leave(connection: _Connection, call: _Call) -> None:
    """Give a call up that has not been answered."""
    if connection.calls.pop(call.stream_id, None) is not None and not call.answered.done():
        with suppress(NGH2Error):
            connection.engine.reset_stream(call.stream_id, ErrorCode.CANCEL)
        connection.speak()
    if not call.answered.done():
        call.answered.cancel()


class CrowdClient(SeckillClient):
    """A client whose unary calls take a link; orders are watched through gRPC."""

    def __init__(
        self, target: str, *, tls: LinkTls | None = None, options: Sequence[Option] = ()
    ) -> None:
        credentials = None if tls is None else tls.credentials()
        super().__init__(target, credentials=credentials, options=options)
        self._link = Link(target, security=None if tls is None else tls.context())

    async def __aenter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close both connections."""
        self._link.close()
        await super().close()

    async def _ask(self, step: Ask) -> object:
        metadata = (*await self._who(step.as_buyer), *step.metadata)
        with recorded(step.method, step.request, self._on_call) as call:
            answer: Any = await self._link.call(
                step.method, step.request.SerializeToString(), metadata, step.timeout_s
            )
            call.response = _RESPONSES[step.method].FromString(answer)
        return call.response
