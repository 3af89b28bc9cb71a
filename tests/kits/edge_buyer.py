"""Buyers who call through the edge as pages do: in JSON, or in gRPC-Web."""

import struct
from typing import Any

from google.protobuf.message import Message

from seckill_cli.demo.buyer import Buyer
from tests.kits.actions import buyer_at
from tests.kits.doors import JsonDoor
from tests.kits.edge import SERVICE, Edge
from tests.kits.factories import new_id
from tests.kits.mesh import Mesh

FRAME = struct.Struct(">BI")
TRAILERS = 0x80


def json_buyer(edge: Edge, mesh: Mesh, user: str = "") -> Buyer:
    """Return a simulated buyer who calls through the edge in JSON; a new one by default."""
    return buyer_at(JsonDoor(edge), mesh, user or new_id("buyer"))


async def grpc_web(edge: Edge, method: str, request: Message, **headers: str) -> tuple[bytes, Any]:
    """Make a call in gRPC-Web, as a browser's library does.

    Returns:
        The message, and the trailers (or the headers, if there was no message).
    """
    payload = request.SerializeToString()
    answer = await edge.call(
        "POST",
        f"/{SERVICE}/{method}",
        FRAME.pack(0, len(payload)) + payload,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **headers},
    )
    assert answer.status == 200
    message, trailers, rest = b"", dict(answer.headers.items()), answer.body
    while rest:
        kind, length = FRAME.unpack(rest[: FRAME.size])
        frame, rest = rest[FRAME.size : FRAME.size + length], rest[FRAME.size + length :]
        if kind & TRAILERS:
            lines = frame.decode().strip().splitlines()
            trailers.update(dict(line.split(":", 1) for line in lines))
        else:
            message = frame
    return message, {name.lower(): value.strip() for name, value in trailers.items()}
