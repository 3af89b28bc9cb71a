"""One HTTP request and its answer, whichever version of HTTP carries them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from gateway.front.rest.answers import Answer
from seckill.errors import SeckillError


class Handler(Protocol):
    """Makes the answer of an exchange."""

    def complete(self, body: bytes) -> None:
        """The request has come whole."""

    def leave(self) -> None:
        """The caller has left before the answer was sent."""

    def fail(self, error: SeckillError) -> None:
        """Answer with a failure, unless there has been an answer."""

    def stop(self, *, at_once: bool) -> None:
        """The replica stops: end the call `at_once`, or if it would go on for long."""


class Exchange(ABC):
    """Tells its handler what comes, and sends what the handler answers.

    Attributes:
        peer: gRPC's name of the peer.
        named: the header fields by name; values of one name are joined by commas.
        body_bytes_max: the longest body that the call may have.
        handler: makes the answer; None before, and once the exchange is over.
    """

    __slots__ = ("body_bytes_max", "handler", "named", "peer")

    body_bytes_max: int
    peer: str
    named: Mapping[bytes, bytes]
    handler: Handler | None

    @abstractmethod
    def answer(self, answer: Answer) -> None:
        """Send a whole answer."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send a part of an answer of any length; the first one sends its head."""

    @abstractmethod
    def finish(self) -> None:
        """End an answer that was sent in parts."""
