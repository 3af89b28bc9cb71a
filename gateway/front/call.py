"""A call, and the batches in which handlers get them."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from seckill.errors import (
    InvalidField,
    RemoteError,
    SeckillError,
    TrailingMetadata,
    trailing_metadata,
)

# Refusals of a flood are all alike; each is encoded once (10 µs saved a call).
ENCODED_REFUSALS_MAX = 1_024


class Call(ABC):
    """One unary call, answered once: the second answer, or one to a caller who left, does nothing.

    Attributes:
        payload: the serialized request.
        peer: gRPC's name of the peer, e.g. "ipv4:192.0.2.1:50051".
        authorization: that metadata, or None.
        deadline_s: monotonic time; infinity where the caller set none.
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

    @abstractmethod
    def respond(self, payload: bytes) -> None:
        """Answer with a serialized response."""

    @abstractmethod
    def fail(self, error: SeckillError) -> None:
        """Answer with a status and its details."""


Handler = Callable[[Sequence[Call]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HotMethod:
    """A method that is served in batches.

    Attributes:
        path: "/package.Service/Method".
        handle: answers each call of a batch, now or later.
    """

    path: str
    handle: Handler


def trailing_of(error: SeckillError) -> TrailingMetadata:
    """The metadata of a failure; details that come again and again are encoded once."""
    if error.metadata or isinstance(error, InvalidField | RemoteError):
        return trailing_metadata(error)
    return _trailing(_Same(error))


class _Same:
    """An error that equals others with the same status, message and delay."""

    __slots__ = ("error", "key")

    def __init__(self, error: SeckillError) -> None:
        self.error = error
        self.key = (type(error), str(error), error.retry_after_s)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=ENCODED_REFUSALS_MAX)
def _trailing(same: _Same) -> TrailingMetadata:
    return trailing_metadata(same.error)
