"""HTTP by hand: one call over HTTP/1.1 or HTTP/2, and its answer."""

import asyncio
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from devstack.ports import LOOPBACK
from tests.kits import wire

CALL_S = 20.0
# Of HTTP/2, unless its peer names another.
FRAME_BYTES_MAX = 16_384
Version = Literal["http/1.1", "h2"]


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP; names of header fields are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason in the ErrorInfo of an error."""
        return str(self.json["details"][0]["reason"])


async def call(
    port: int,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    version: Version = "http/1.1",
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Make one call on a connection of its own.

    Args:
        body: bytes, or what becomes JSON.
        tls: None speaks in clear.
    """
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if version == "h2":
        return await _call_2(port, method, path, content, headers or {}, tls)
    return await asyncio.to_thread(_call_1, port, method, path, content, headers or {}, tls)


def _call_1(
    port: int,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
) -> Answer:
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=CALL_S)
    else:
        connection = http.client.HTTPSConnection("localhost", port, timeout=CALL_S, context=tls)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


async def _call_2(
    port: int,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
) -> Answer:
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [(name.lower(), value) for name, value in headers.items()]
    async with wire.connected(port, tls=tls) as client:
        frames = [client.headers(1, fields, ends=body is None)]
        if body is not None:
            parts = [body[at : at + FRAME_BYTES_MAX] for at in range(0, len(body), FRAME_BYTES_MAX)]
            frames += [wire.frame(wire.DATA, 0, 1, part) for part in parts]
            frames.append(wire.frame(wire.DATA, wire.END_STREAM, 1))
        await client.send(*frames)
        reply = await client.reply(1)
    return Answer(int(reply.headers[":status"]), reply.headers, reply.data)


async def until_closed(port: int, sent: bytes) -> bytes:
    """Return what comes back on a connection that sends this and no more."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), CALL_S)
    finally:
        writer.close()
