"""A buyer who speaks JSON."""

import struct
import uuid
from typing import Any

from google.protobuf.message import Message

from tests.edge.kit import SERVICE, Answer, Edge
from tests.mesh import Mesh
from tests.waiting import eventually

FRAME = struct.Struct(">BI")
TRAILERS = 0x80


class JsonBuyer:
    """One buyer's calls through the edge, as JSON."""

    def __init__(self, edge: Edge, mesh: Mesh, user: str) -> None:
        self.edge = edge
        self.headers = {**dict(mesh.identity(user)), "content-type": "application/json"}

    async def token(self, sku: str) -> str:
        """A purchase token."""
        answer = await self.edge.call(
            "POST", f"/v1/sales/{sku}:issuePurchaseToken", {}, headers=self.headers
        )
        assert answer.status == 200, answer.body
        return str(answer.json["purchaseToken"])

    async def press(self, sku: str, *, request_id: str = "") -> Answer:
        """A purchase, with a fresh token."""
        body = {
            "purchase_token": await self.token(sku),
            "request_id": request_id or str(uuid.uuid4()),
        }
        return await self.edge.call("POST", f"/v1/sales/{sku}:purchase", body, headers=self.headers)

    async def order_when_there(self, order_no: str) -> Any:
        """The order, as soon as polling sees it."""

        async def look() -> Answer:
            return await self.edge.call("GET", f"/v1/orders/{order_no}", headers=self.headers)

        answer = await eventually(look, lambda seen: seen.status == 200)
        return answer.json["order"]


async def grpc_web(edge: Edge, method: str, request: Message, **headers: str) -> tuple[bytes, Any]:
    """A call in gRPC-Web, as a browser's library makes it.

    Returns:
        The message, and the trailers (or the headers, where there was no message).
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
