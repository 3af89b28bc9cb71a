"""The calls that JSON can make: of batched methods, and of those that grpc.aio serves behind."""

import asyncio
import math
import re
from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from gateway.front.call import USER_AGENT_CHARACTERS_MAX
from gateway.front.queue import QueuedCall
from gateway.front.rest import answers
from gateway.front.rest.exchange import Exchange
from gateway.front.rest.routes import Target
from seckill.errors import (
    DeadlinePassed,
    NotImplementedYet,
    SeckillError,
)
from seckill.front.messages import timeout_s
from seckill.front.peers import PEER_METADATA, USER_AGENT_METADATA
from seckill.runtime import request_ids
from seckill.runtime.faults import fault_of
from seckill.runtime.sale_view import SKU_METADATA
from seckill.runtime.streams import replica_stopping
from seckill.status import from_rpc_error, reason_of

if TYPE_CHECKING:
    from gateway.front.rest.door import JsonDoor

# The deadline of a call whose caller names none, as nearly none does in JSON: Envoy's own.
CALL_S = 10.0
# Whether such a call is let in is decided as if it had this one: who waits at a page has no more
# patience than other callers, and would only keep those who name a deadline from being answered.
ASSUMED_S = 1.0
# Header fields that are about the connection or about JSON, and not about the call.
NOT_PASSED = {
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    PEER_METADATA,
    SKU_METADATA,
    USER_AGENT_METADATA,
}


# What gRPC itself says without our details.
_OWN_CODES: dict[grpc.StatusCode, type[SeckillError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedYet,
}
# What gRPC takes as the name of metadata, and what it never takes in a value.
_NAME = re.compile(r"[0-9a-z_.-]+")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")


class JsonCall(QueuedCall):
    """A batched method's call; its request stays bytes until it is handled."""

    __slots__ = ("_body", "_door", "_exchange", "_target", "_timeout_s")

    def __init__(self, door: "JsonDoor", exchange: Exchange, target: Target, index: int) -> None:
        self._door = door
        self._exchange = exchange
        self._target = target
        self._body = b""
        self.index = index
        self.peer = exchange.peer
        self.authorization = exchange.named.get(b"authorization")

    def metadata(self, key: str) -> str | None:
        if key == SKU_METADATA:
            # In JSON a refusal is an outcome, whatever else the caller names.
            return None
        value = self._exchange.named.get(key.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def traceparent(self) -> str | None:
        value = self._exchange.named.get(b"traceparent")
        return None if value is None else value.decode("latin-1")

    def complete(self, body: bytes) -> None:
        self._body = body
        self._door.queue.complete(self, len(body) + 1)

    def open(self) -> None:
        self.payload = self._target.decode(self._body)
        self._body = b""

    def respond(self, payload: bytes) -> None:
        self._answer(answers.success(self._target.route.encode(payload)), grpc.StatusCode.OK)

    def fail(self, error: SeckillError) -> None:
        self._answer(answers.failure(error), error.code)

    def leave(self) -> None:
        self._end(grpc.StatusCode.CANCELLED, answered=False)

    def stop(self, *, at_once: bool) -> None:
        if at_once:
            self.fail(replica_stopping())

    def _answer(self, answer: answers.Answer, code: grpc.StatusCode) -> None:
        exchange = self._exchange
        if exchange.handler is not None:
            exchange.handler = None
            exchange.answer(answer)
            self._end(code)

    def _end(self, code: grpc.StatusCode, *, answered: bool = True) -> None:
        self._body = b""
        self._door.queue.leave(self, answered=answered)
        self._door.metrics.count(self, code)


class PassedJson:
    """A call of any other method: a task that asks grpc.aio behind."""

    def __init__(self, door: "JsonDoor", exchange: Exchange, target: Target) -> None:
        self._door = door
        self._exchange = exchange
        self._target = target
        self._task: asyncio.Task[None] | None = None
        self._streaming = False
        self._stops = False
        door.behind.relays += 1

    def complete(self, body: bytes) -> None:
        try:
            payload = self._target.decode(body)
        except SeckillError as error:
            self.fail(error)
            return
        self._task = asyncio.create_task(self._run(payload), name=self._target.route.path)

    def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._forget()

    def fail(self, error: SeckillError) -> None:
        exchange = self._exchange
        if exchange.handler is None:
            return
        exchange.handler = None
        if self._streaming:
            # A stream that ends without a final state must not look as if it had one.
            exchange.write(answers.status_line(error))
            exchange.finish()
        else:
            exchange.answer(answers.failure(error))
        if self._task is not None:
            self._task.cancel()
        self._forget()

    def stop(self, *, at_once: bool) -> None:
        if at_once or self._streaming:
            self.fail(replica_stopping())
        else:
            self._stops = True

    async def _run(self, payload: bytes) -> None:
        route = self._target.route
        channel = self._door.channel()
        left_s = timeout_s(self._exchange.named.get(b"grpc-timeout"))
        named = self._exchange.named
        metadata = [
            *_metadata(named),
            (PEER_METADATA, self._exchange.peer),
            (USER_AGENT_METADATA, _user_agent(named)),
        ]
        request_ids.bind_from(metadata)
        try:
            if route.streams:
                most_s = None if left_s == math.inf else left_s
                watch: Any = channel.unary_stream(route.path)
                await self._stream(watch(payload, metadata=metadata, timeout=most_s))
            else:
                ask: Any = channel.unary_unary(route.path)
                most_s = min(left_s, CALL_S)
                self._succeed(route.encode(await ask(payload, metadata=metadata, timeout=most_s)))
        except grpc.aio.AioRpcError as error:
            known = _OWN_CODES.get(error.code())
            has_details = reason_of(error) is not None
            self.fail(
                known() if known and not has_details else from_rpc_error(error, service="gateway")
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self.fail(fault_of(error, method=route.path))

    def _succeed(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange.handler is not None:
            exchange.handler = None
            exchange.answer(answers.success(body))
            self._forget()

    async def _stream(self, messages: AsyncIterable[bytes]) -> None:
        exchange = self._exchange
        async for message in messages:
            if exchange.handler is None:
                return
            self._streaming = True
            exchange.write(self._target.route.encode(message) + b"\n")
            if self._stops:
                self.stop(at_once=True)
                return
        if exchange.handler is not None:
            exchange.handler = None
            exchange.finish()
            self._forget()

    def _forget(self) -> None:
        self._door.behind.relays -= 1


def _user_agent(named: Mapping[bytes, bytes]) -> str:
    """Return the header `user-agent` as gRPC can carry it; "" for none."""
    text = named.get(b"user-agent", b"")[:USER_AGENT_CHARACTERS_MAX]
    return _CONTROLS.sub(b"?", text).decode("ascii", "backslashreplace").strip()


def _metadata(named: Mapping[bytes, bytes]) -> list[tuple[str, str]]:
    """Return the header fields that gRPC can carry: HTTP allows names and bytes that it refuses."""
    fields = ((name.decode("latin-1"), value) for name, value in named.items())
    return [
        (name, value.decode("ascii", "backslashreplace"))
        for name, value in fields
        if name not in NOT_PASSED
        and not name.startswith("grpc-")
        and name[-4:] != "-bin"
        and _NAME.fullmatch(name)
        and not _CONTROLS.search(value)
    ]
