"""A JSON call over HTTP/1.1: a request and its answer, in the order of their connection."""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from gateway.front.call import REQUEST_BYTES_MAX
from gateway.front.rest.answers import Answer, failure
from gateway.front.rest.exchange import Exchange, Handler
from seckill.errors import SeckillError
from seckill.front.messages import too_large

if TYPE_CHECKING:
    from gateway.front.rest.http1 import Http1Connection

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


class Http1Exchange(Exchange):
    """A request on a connection; its answer waits for those before it.

    Attributes:
        last: the connection ends with the answer.
        answered: the answer is whole.
        out: what is to be sent once the exchanges before it are over.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_is_chunked",
        "_shows_body",
        "_streams",
        "answered",
        "last",
        "out",
    )

    def __init__(
        self,
        connection: "Http1Connection",
        named: dict[bytes, bytes],
        *,
        method: str = "",
        version: str = "1.1",
        last: bool,
    ) -> None:
        self._connection = connection
        self._body = b""
        self._shows_body = method != "HEAD"
        # Before HTTP/1.1 an answer of unknown length ends with its connection.
        self._is_chunked = version == "1.1"
        self._streams = False
        self.body_bytes_max = REQUEST_BYTES_MAX
        self.handler: Handler | None = None
        self.named = named
        self.peer = connection.peer
        self.last = last or version != "1.1"
        self.answered = False
        self.out = bytearray()

    # -- the request -----------------------------------------------------------------------------

    def receive(self, data: bytes) -> bool:
        """Take in a part of the body; False if it is too large."""
        self._body += data
        if len(self._body) <= self.body_bytes_max:
            return True
        self.break_off(too_large(self.body_bytes_max))
        return False

    def complete(self) -> None:
        """The request has come whole."""
        body, self._body = self._body, b""
        if self.handler is not None:
            self.handler.complete(body)

    def break_off(self, error: SeckillError) -> None:
        """Answer with a failure, which is the connection's last answer."""
        self.last = True
        if self.handler is not None:
            self.handler.fail(error)
        else:
            self.answer(failure(error))

    # -- the answer ------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        if self.answered:
            return
        self.answered = True
        self.last = self.last or self._connection.retiring
        self.out += b"HTTP/1.1 %d %s\r\ndate: %s\r\n" % (
            answer.status,
            _REASONS.get(answer.status, b""),
            _date(int(time.time())),
        )
        for field in answer.fields:
            self.out += b"%s: %s\r\n" % field
        self.out += b"content-length: %d\r\n" % len(answer.body)
        self.out += b"connection: close\r\n\r\n" if self.last else b"\r\n"
        if self._shows_body:
            self.out += answer.body
        self._connection.speak()

    def write(self, data: bytes) -> None:
        if self.answered:
            return
        if not self._streams:
            self._streams = True
            self.last = self.last or self._connection.retiring
            self.out += _STREAM
            self.out += b"connection: close\r\n" if self.last else b""
            self.out += b"transfer-encoding: chunked\r\n\r\n" if self._is_chunked else b"\r\n"
        self.out += b"%x\r\n%s\r\n" % (len(data), data) if self._is_chunked else data
        self._connection.speak()

    def finish(self) -> None:
        if not self.answered:
            self.answered = True
            self.out += b"0\r\n\r\n" if self._is_chunked else b""
            self._connection.speak()
