"""A call, and the batches in which handlers get them."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from seckill.errors import SeckillError
from seckill.runtime import request_ids, traceparent, tracing
from seckill.runtime.spans import Span

# Calls of a failed batch that its line in the log names.

# The longest legal request of a batched method has under a kilobyte.
REQUEST_BYTES_MAX = 16 * 1024
# Of the header `user-agent` so much is looked at.
USER_AGENT_CHARACTERS_MAX = 512


class Caller(Protocol):
    """What tells the address that a call is charged to.

    Attributes:
        peer: gRPC's name of the peer, e.g. "ipv4:192.0.2.1:50051".
    """

    @property
    def peer(self) -> str: ...

    def metadata(self, key: str) -> str | None:
        """The values of a text key (lower case), joined by commas, or None."""


class Call(ABC):
    """One unary call, answered once: a second answer, or one to a caller who left, does nothing.

    Attributes:
        payload: the serialized request.
        peer: gRPC's name of the peer, e.g. "ipv4:192.0.2.1:50051".
        authorization: that metadata, or None.
        deadline_s: monotonic time; infinity if the caller set none.
        cancelled: the caller has left; work not begun need not be.
    """

    __slots__ = ("authorization", "cancelled", "deadline_s", "payload", "peer")

    payload: bytes
    peer: str
    authorization: bytes | None
    deadline_s: float
    cancelled: bool

    @abstractmethod
    def metadata(self, key: str) -> str | None:
        """The values of a text key (lower case), joined by commas, or None."""

    @property
    def traceparent(self) -> str | None:
        """That header field, or None."""
        return self.metadata(traceparent.HEADER)

    def request_id(self) -> str:
        """The id that the caller gave the call; empty for none."""
        return request_ids.given(self.traceparent, self.metadata(request_ids.HEADER))

    @abstractmethod
    def respond(self, payload: bytes) -> None:
        """Answer with a serialized response."""

    @abstractmethod
    def fail(self, error: SeckillError) -> None:
        """Answer with a status and its details."""


Handler = Callable[[Sequence[Call]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BatchedMethod:
    """A method that is served in batches.

    Attributes:
        path: "/package.Service/Method".
        handle: answers each call of a batch, now or later.
        urgent: its calls go before the others, and are not refused for the others' sake.
    """

    path: str
    handle: Handler
    urgent: bool = False


def id_of_batch(calls: Sequence[Call]) -> str:
    """The request id under which calls are handled together: the caller's own if there is one."""
    own = calls[0].request_id() if len(calls) == 1 else ""
    return own or request_ids.new()


def ids_of(calls: Sequence[Call]) -> list[str]:
    """The ids that callers gave these calls, the first 20 of them, for the log."""
    return [given for call in calls[: request_ids.LOGGED_IDS_MAX] if (given := call.request_id())]


def span_of(calls: Sequence[Call]) -> Span | None:
    """The span of the first of these calls that is traced."""
    tracer = tracing.tracer
    if tracer is None or not tracer.live:
        return None
    return next((span for call in calls if (span := tracer.live.get(call))), None)
