"""A caller's connection over HTTP/1.1, parsed by httptools (llhttp, the parser of Node.js)."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from gateway.front.rest.answers import HeadersTooLarge, RequestTimeout
from gateway.front.rest.decoding import RAW_BYTES_MAX
from gateway.front.rest.http1_exchange import Http1Exchange
from seckill.errors import InvalidField, SeckillError
from seckill.front.lifetime import Lifetime, Verdict
from seckill.front.limits import WRITE_HIGH_BYTES
from seckill.front.messages import too_large
from seckill.front.peers import name_of_peer
from seckill.runtime.callers import Caller
from seckill.runtime.http2.engine import HEADER_FIELDS_MAX

if TYPE_CHECKING:
    from gateway.front.http2 import Http2Front

# Requests that one connection may send before they are answered; it is read no further until some
# are, and closed after these if more come in one piece.
PIPELINED_MAX = 16
# How long a caller whose request is given up has to take the answer, before the connection ends.
LINGER_S = 1.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _length(named: dict[bytes, bytes]) -> int:
    """The length of the body, if it is said before it comes."""
    length = named.get(b"content-length", b"0")
    return int(length[:20]) if length.isdigit() else 0


class Http1Connection(asyncio.Protocol):
    """Reads requests, and has each turn's answers written at once, in the requests' order."""

    def __init__(self, front: "Http2Front") -> None:
        self._front = front
        self._parser = HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._lifetime = Lifetime(front.limits, now_s=front.now_s(), jitter=front.jitter())
        self._pending: deque[Http1Exchange] = deque()
        # The request that is arriving, from its first byte to its last.
        self._arriving = False
        self._reading: Http1Exchange | None = None
        self._url = b""
        self._named: dict[bytes, bytes] = {}
        self._fields = 0
        self._head_bytes = 0
        self._dirty = False
        self._paused = False
        self._written = 0
        # Nothing that comes is read any more; the connection ends then at the latest.
        self._deaf = False
        self._ends_at_s = 0.0
        self.opened_s = 0.0
        self.peer = ""
        self._caller: Caller | None = None

    @property
    def retiring(self) -> bool:
        """Whether the next answer is to be the last."""
        return self._lifetime.retiring

    # -- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = name_of_peer(transport)
        if not self._front.accept(self) or not peer:
            self.abort()
            return
        self.peer = peer
        self._caller = self._front.caller_at(transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            self._feed(data)
        if not self._deaf:
            self._note_arrival()
            self._throttle()

    def _feed(self, data: bytes) -> None:
        if self._reading is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            # No other protocol is spoken here; what comes next would be that.
            self._be_deaf()
        except HttpParserError as error:
            self._break_off(InvalidField([("request", f"is not HTTP: {error}")]))

    def _note_arrival(self) -> None:
        front = self._front
        if self._arriving:
            if self._reading is None and self._head_bytes > front.limits.header_bytes_max:
                self._break_off(HeadersTooLarge([("request", "has headers that are too large")]))
            elif self not in front.half_opened:
                front.half_open(self)
        else:
            front.half_opened.pop(self, None)

    def pause_writing(self) -> None:
        self._paused = True
        self._throttle()

    def resume_writing(self) -> None:
        self._paused = False
        self.speak()
        self._throttle()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._deaf = True
        self._front.lost(self)
        self._front.half_opened.pop(self, None)
        pending = list(self._pending)
        self._pending.clear()
        for exchange in pending:
            handler, exchange.handler = exchange.handler, None
            exchange.answered = True
            if handler is not None:
                handler.leave()

    def _throttle(self) -> None:
        """Read on only as long as the caller takes its answers and waits for few of them."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._paused or len(self._pending) >= PIPELINED_MAX:
            transport.pause_reading()
        else:
            transport.resume_reading()

    # -- the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._arriving = True
        self._reading = None
        self._url = b""
        self._named = {}
        self._fields = self._head_bytes = 0
        self.opened_s = self._lifetime.busy_s = self._front.now_s()
        self._lifetime.greeted = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not None:
            # A field that follows the body says nothing that is needed.
            return
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        known = self._named.get(name)
        self._named[name] = value if known is None else b"%s,%s" % (known, value)

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        parser, named = self._parser, self._named
        method = parser.get_method().decode("ascii")
        exchange = self._reading = Http1Exchange(
            self,
            named,
            method=method,
            version=parser.get_http_version(),
            last=not parser.should_keep_alive(),
        )
        self._pending.append(exchange)
        problem = self._problem(named)
        if problem is not None:
            self._break_off(problem)
            return
        url = self._url.decode("latin-1")
        self._front.open_json(
            exchange, method=method, url=url, caller=self._caller, now_s=self.opened_s
        )
        if exchange.handler is None:
            return
        if _length(named) > exchange.body_bytes_max:
            self._break_off(too_large(exchange.body_bytes_max))
        elif named.get(b"expect", b"").lower() == b"100-continue":
            exchange.out += _CONTINUE
            self.speak()

    def _problem(self, named: dict[bytes, bytes]) -> SeckillError | None:
        """What is wrong with a request, by its header fields."""
        if self._fields > HEADER_FIELDS_MAX or (
            self._head_bytes + len(self._url) > self._front.limits.header_bytes_max
        ):
            return HeadersTooLarge([("request", "has headers that are too large, or too many")])
        if named.get(b"host") is None and self._parser.get_http_version() == "1.1":
            return InvalidField([("host", "is missing")])
        if _length(named) > RAW_BYTES_MAX:
            return too_large(RAW_BYTES_MAX)
        return None

    def on_body(self, body: bytes) -> None:
        if not self._deaf and self._reading is not None and not self._reading.receive(body):
            self._be_deaf()

    def on_message_complete(self) -> None:
        exchange = self._reading
        self._arriving = False
        self._reading = None
        self._head_bytes = 0
        if self._deaf or exchange is None:
            return
        exchange.complete()
        if exchange.last:
            self._deaf = True
        elif len(self._pending) > PIPELINED_MAX:
            exchange.last = True
            self._deaf = True

    # -- answers ---------------------------------------------------------------------------------

    def speak(self) -> None:
        """There is something to write: it is written at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self._front.to_flush(self)

    def flush(self) -> None:
        """Write what there is to say."""
        self._dirty = False
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return
        out = bytearray()
        pending = self._pending
        ends = False
        while pending and not ends:
            exchange = pending[0]
            out += exchange.out
            exchange.out = bytearray()
            if not exchange.answered:
                break
            ends = exchange.last
            pending.popleft()
        if out:
            self._written += len(out)
            transport.write(out)
        if ends:
            self._hang_up()
        elif self._lifetime.retiring and not pending and not self._arriving:
            transport.close()
        else:
            self._throttle()

    def _hang_up(self) -> None:
        """Close, but let a caller who still sends read the last answer first."""
        transport = self._transport
        if transport is None:
            return
        self._deaf = True
        if not self._arriving:
            transport.close()
            return
        # Closed with bytes unread, the kernel would take the answer back.
        self._ends_at_s = self._front.now_s() + LINGER_S
        if transport.can_write_eof():
            transport.write_eof()

    # -- its end ---------------------------------------------------------------------------------

    def expire(self) -> None:
        """The request has been on its way for too long."""
        self._break_off(RequestTimeout("the request did not arrive in time"))

    def _break_off(self, error: SeckillError) -> None:
        """Answer the request that is arriving with a failure, and hear no more."""
        exchange = self._reading
        if exchange is None:
            exchange = Http1Exchange(self, {}, last=True)
            self._pending.append(exchange)
        exchange.break_off(error)
        self._be_deaf()

    def _be_deaf(self) -> None:
        self._deaf = True
        self._front.half_opened.pop(self, None)
        if self._pending:
            self._pending[-1].last = True
        else:
            self._hang_up()

    def give_up(self) -> None:
        """The time for calls is over: answer every one that is left, and close."""
        self._deaf = True
        for exchange in list(self._pending):
            exchange.last = exchange is self._pending[-1]
            if exchange.handler is not None:
                exchange.handler.stop(at_once=True)
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up, now."""
        self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def retire(self, reason: str, *, grace_s: float, at_once: bool) -> None:
        """End with the call that is open, or now if there is none.

        Args:
            reason: for the metrics.
            grace_s: after which calls that are not done are answered UNAVAILABLE.
            at_once: end what would go on for long.
        """
        if not self._lifetime.retiring:
            self._front.metrics.count_closed(reason)
        self._lifetime.retire(now_s=self._front.now_s(), grace_s=grace_s)
        if at_once:
            for exchange in list(self._pending):
                if exchange.handler is not None:
                    exchange.handler.stop(at_once=False)
        self.speak()

    def check(self, now_s: float, idle_timeout_s: float) -> None:
        """Look whether the connection has any future; called every second."""
        limits, transport = self._front.limits, self._transport
        if transport is None:
            return
        if self._ends_at_s and now_s >= self._ends_at_s:
            transport.abort()
            return
        self._lifetime.see_answers(
            now_s=now_s,
            queued=0,
            buffered=transport.get_write_buffer_size(),
            written=self._written,
        )
        verdict = self._lifetime.verdict(
            now_s=now_s,
            has_calls=bool(self._pending) or self._arriving,
            idle_timeout_s=idle_timeout_s,
        )
        if verdict is Verdict.STAYS:
            return
        if verdict is Verdict.GRACE:
            self.give_up()
        elif verdict is Verdict.IDLE:
            self.retire(verdict.value, grace_s=limits.handshake_timeout_s, at_once=False)
        elif verdict is Verdict.AGE:
            self.retire(verdict.value, grace_s=limits.age_grace_s, at_once=False)
        else:
            self._front.metrics.count_closed(verdict.value)
            self.abort()
