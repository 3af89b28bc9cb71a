"""Lets JSON calls in: batched methods into the same queue as gRPC's, the others to grpc.aio behind.

A call is refused at its header fields, before its body is read, wherever a gRPC call would be.
What is not gRPC is JSON, whatever its content type says: `curl -d` names a form. That opens nothing
to the pages of others, as a call is proven by its `authorization` alone. CORS is not spoken here:
it is Envoy's.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from gateway.front.call import BatchedMethod
from gateway.front.front_metrics import FrontMetrics
from gateway.front.queue import CallQueue
from gateway.front.rest import answers
from gateway.front.rest.calls import ASSUMED_S, CALL_S, JsonCall, PassedJson
from gateway.front.rest.exchange import Exchange
from gateway.front.rest.routes import Routes, Target
from seckill.errors import InvalidField, Overloaded, SeckillError
from seckill.front.messages import timeout_s
from seckill.runtime.callers import Caller

if TYPE_CHECKING:
    from seckill.front.passthrough import PassedThrough


class JsonDoor:
    """Finds what a request names, and refuses it or starts its handler."""

    def __init__(
        self,
        methods: Sequence[BatchedMethod],
        *,
        queue: CallQueue,
        metrics: FrontMetrics,
        behind: "PassedThrough",
    ) -> None:
        """`methods`: those that are batched, in the order that `queue` knows."""
        self.queue = queue
        self.metrics = metrics
        self.behind = behind
        self._routes = Routes()
        self._index = {method.path: index for index, method in enumerate(methods)}
        self._channel: grpc.aio.Channel | None = None

    def open(
        self, exchange: Exchange, *, method: str, url: str, caller: Caller | None, now_s: float
    ) -> None:
        """Answer a request at its header fields, or give its exchange a handler."""
        try:
            target = self._routes.find(method, url)
            named = exchange.named
            if named.get(b"content-type", b"").startswith(b"application/grpc"):
                raise answers.MediaTypeUnknown([("content-type", "is not application/json")])
            left_s = timeout_s(named.get(b"grpc-timeout"))
            if left_s < 0:
                raise InvalidField([("grpc-timeout", "is malformed")])
            exchange.body_bytes_max = target.route.decoder.bytes_max
            if caller is not None:
                caller.check(target.route.path)
            index = self._index.get(target.route.path)
            if index is None:
                self._pass(exchange, target)
            else:
                self._enter(exchange, target, index, left_s=left_s, now_s=now_s)
        except SeckillError as error:
            exchange.answer(answers.failure(error))

    def _enter(
        self, exchange: Exchange, target: Target, index: int, *, left_s: float, now_s: float
    ) -> None:
        patient_s = left_s if left_s < math.inf else ASSUMED_S
        if self.queue.refuses(index, patient_s):
            self.metrics.count_unhandled(index, grpc.StatusCode.RESOURCE_EXHAUSTED)
            raise self.queue.refusal()
        call = JsonCall(self, exchange, target, index)
        exchange.handler = call
        timeout = min(left_s, CALL_S)
        self.queue.enter(call, timeout_s=timeout, patient_s=patient_s, now_s=now_s)

    def _pass(self, exchange: Exchange, target: Target) -> None:
        if not self.behind.has_streams():
            raise Overloaded("too many calls are open")
        exchange.handler = PassedJson(self, exchange, target)

    def channel(self) -> grpc.aio.Channel:
        """Return the channel to the server behind, which is opened by its first use."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(
                f"unix:{self.behind.path}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
        return self._channel

    async def close(self) -> None:
        """Hang up on the server behind."""
        if self._channel is not None:
            await self._channel.close()
