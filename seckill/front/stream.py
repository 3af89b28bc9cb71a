"""A call on a connection, as the connection sees it."""

from abc import ABC, abstractmethod
from typing import Protocol


class HalfOpen(Protocol):
    """A request that has begun and is not whole.

    Attributes:
        opened_s: monotonic time.
    """

    opened_s: float

    def expire(self) -> None:
        """The request has been on its way for too long."""


class Stream(ABC):
    """A batched call, or one that is passed through.

    Attributes:
        whole: the caller has sent all of the request.
        opened_s: monotonic time.
    """

    __slots__ = ()

    stream_id: int
    opened_s: float
    whole: bool

    @abstractmethod
    def receive(self, data: bytes, *, ends: bool) -> None:
        """Take in a part of the request's body."""

    @abstractmethod
    def close(self) -> None:
        """The stream has ended before the call was answered in full."""

    @abstractmethod
    def expire(self) -> None:
        """The request has been on its way for too long."""

    @abstractmethod
    def stop(self, *, at_once: bool) -> None:
        """The replica stops: end the call `at_once`, or if it would go on for long."""


class Owing(Protocol):
    """Owes one side an acknowledgement for bytes that the other side has not taken yet."""

    def settle(self) -> None:
        """Acknowledge what has been taken."""
