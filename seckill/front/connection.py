"""One caller's connection: the library's state, the calls on it, and what they may take of us."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from seckill.front import statuses
from seckill.front.early import EarlyAnswers
from seckill.front.lifetime import Lifetime, Verdict
from seckill.front.limits import WRITE_HIGH_BYTES, ControlBudget
from seckill.front.messages import timeout_s
from seckill.front.peers import name_of_peer
from seckill.front.stream import Owing, Stream
from seckill.runtime.callers import Caller
from seckill.runtime.http2.engine import (
    Code,
    ConnectionClosed,
    DataReceived,
    Engine,
    EngineError,
    Event,
    Headers,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
    WindowUpdated,
    server_engine,
)

if TYPE_CHECKING:
    from seckill.front.listener import Listener

# What we ping with to learn that a caller knows of our GOAWAY.
RETIRING = b"retiring"


class ServerConnection(asyncio.Protocol):
    """Reads events, and has each turn's answers written at once."""

    def __init__(self, front: "Listener") -> None:
        self.front = front
        self.engine, self._greeting = self.greet()
        self.streams: dict[int, Stream] = {}
        self.peer = ""
        # None while everybody may call everything.
        self.caller: Caller | None = None
        # Something is to be written; the library may have something to say; calls and answers
        # since the control frames were last charged.
        self.dirty = False
        self.spoken = True
        self.exchanged = 0
        self._transport: asyncio.Transport | None = None
        self._budget = ControlBudget()
        self._early = EarlyAnswers()
        # Relays that have bytes to be acknowledged once these answers have been read.
        self.owing: set[Owing] = set()
        self._lifetime = Lifetime(front.limits, now_s=front.now_s(), jitter=front.jitter())
        self._written = 0
        # Not read: the caller does not read its answers.
        self._paused = False
        self._closing = False

    # -- what a kind of front does beside it -----------------------------------------------------

    def greet(self) -> tuple[Engine, bytes]:
        """Return the library's state, and what is to be sent first."""
        engine = server_engine(self.front.limits)
        return engine, engine.data_to_send()

    @property
    def holds_back(self) -> bool:
        """Whether the caller is not to be read now."""
        return self._paused

    def note_deadline(self, left_s: float, now_s: float) -> None:
        """A call that may take so long has come."""

    def note_streams(self, last_id: int) -> None:
        """Calls up to that stream have come."""

    def note_settings(self, settings: SettingsReceived) -> None:
        """The caller says how it speaks."""

    def further_bytes(self) -> bytes | bytearray:
        """Return what is to be written behind what the library has to say."""
        return b""

    # -- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self.front.accept(self):
            self.abort()
            return
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None and encrypted.selected_alpn_protocol() != "h2":
            self.front.counted.count_closed("alpn")
            self.abort()
            return
        self.peer = name_of_peer(transport)
        if not self.peer:
            # The caller has left while we accepted.
            self.abort()
            return
        self.caller = self.front.caller_at(transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        self.take(data, self.front.now_s())

    def take(self, data: bytes, now_s: float) -> None:
        """Take in bytes of the caller; there may be none, and something to say all the same."""
        events: list[Event] = []
        if data:
            self.spoken = True
            try:
                self.engine.receive_data(data)
                events = self.engine.events()
            except EngineError:
                self.close("protocol")
                return
        if events:
            self._handle(events, now_s)
        if not self.dirty:
            self.touch()

    def pause_writing(self) -> None:
        # Without what the caller sends there is nothing to answer: nothing more piles up.
        self._paused = True
        self.read_or_not()

    def resume_writing(self) -> None:
        self._paused = False
        self.read_or_not()
        self.speak()

    def read_or_not(self) -> None:
        """Read on, or wait."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.holds_back:
            transport.pause_reading()
        elif not self._closing:
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._closing = True
        self.front.lost(self)
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.close()

    # -- what has come ---------------------------------------------------------------------------

    def _handle(self, events: list[Event], now_s: float) -> None:  # noqa: C901, PLR0912 - one loop
        streams = self.streams
        engine = self.engine
        opened: list[Stream] = []
        last_id = 0
        control = 0
        for event in events:
            if isinstance(event, DataReceived):
                data = event.data
                stream = streams.get(event.stream_id)
                if stream is None:
                    engine.acknowledge_received_data(len(data), event.stream_id)
                else:
                    stream.receive(data, ends=event.end_stream)
            elif isinstance(event, RequestReceived):
                last_id = event.stream_id
                self.exchanged += 1
                stream = self._open(event, now_s)
                if stream is not None:
                    streams[last_id] = stream
                    if event.end_stream and not stream.whole:
                        stream.receive(b"", ends=True)
                    opened.append(stream)
            elif isinstance(event, StreamClosed):
                stream = streams.pop(event.stream_id, None)
                if stream is not None:
                    stream.close()
                else:
                    self._early.forget(event.stream_id)
            elif isinstance(event, TrailersReceived):
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.receive(b"", ends=True)
            else:
                control += self._handle_control(event)
        if last_id:
            self._lifetime.busy_s = now_s
            self.note_streams(last_id)
        for stream in opened:
            if not stream.whole and stream.stream_id in streams:
                self.front.half_open(stream)
        if control:
            fair = self._budget.take(control, exchanged=self.exchanged, now_s=now_s)
            self.exchanged = 0
            if not fair:
                self.close("flood", Code.ENHANCE_YOUR_CALM)

    def _open(self, event: RequestReceived, now_s: float) -> Stream | None:
        named = dict(event.headers)
        left_s = timeout_s(named.get(b"grpc-timeout"))
        self.note_deadline(left_s, now_s)
        return self.front.open(self, event, named, left_s, now_s)

    def _handle_control(self, event: Event) -> int:
        """What is about the connection and not a call; returns whether it is to be charged."""
        kind = type(event)
        if kind is PingReceived or kind is WindowUpdated:
            return 1
        if isinstance(event, SettingsReceived):
            self._lifetime.greeted = True
            self.note_settings(event)
            return 1
        if kind is PingAcknowledged:
            if self._lifetime.retiring:
                # Whatever was sent before our notice was read has come: no later call is taken.
                self.engine.send_goaway()
            return 1
        if kind is ConnectionClosed:
            self.close("protocol")
        return 0

    # -- answers ---------------------------------------------------------------------------------

    def answer(self, stream_id: int, headers: Headers, *, whole: bool) -> None:
        """Answer by header fields alone; `whole`: the request had come to its end."""
        # A stream that the caller has reset in the same breath needs no answer.
        with suppress(EngineError):
            self.engine.send_response(stream_id, headers, end_stream=True)
            if not whole:
                self.answered_early(stream_id)
        self.answered()

    def respond(self, stream_id: int, payload: bytes) -> None:
        """Answer a unary call with a serialized response."""
        engine = self.engine
        with suppress(EngineError):
            engine.send_response(stream_id, statuses.ANSWER)
            engine.send_data(stream_id, b"\0" + len(payload).to_bytes(4, "big") + payload)
            engine.send_trailers(stream_id, statuses.OK)
        self.answered()

    def answered_early(self, stream_id: int) -> None:
        """A request has its answer, and is still on its way."""
        self._early.note(stream_id, self.front.now_s())

    def answered(self) -> None:
        """The library has an answer to be sent."""
        self.exchanged += 1
        self.speak()

    def speak(self) -> None:
        """The library has something to be sent."""
        self.spoken = True
        if not self.dirty:
            self.touch()

    def cut(self, stream_id: int) -> None:
        """Tell the caller to send nothing more on a stream that has been answered."""
        self._early.cut(stream_id)
        self.speak()

    def touch(self) -> None:
        """There is something to write: it is written at the end of this turn."""
        if not self.dirty:
            self.dirty = True
            self.front.to_flush(self)

    def flush(self) -> None:
        """Write what there is to say."""
        self.dirty = False
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return
        out: bytes | bytearray = b""
        if self.spoken:
            self.spoken = False
            try:
                out = self.engine.data_to_send()
                if self._early.reset(self.engine):
                    out += self.engine.data_to_send()
            except EngineError:
                self.abort()
                return
        further = self.further_bytes()
        if further:
            out = out + further if out else further
        if out:
            self._written += len(out)
            transport.write(out)
        if self._closing or not (self.engine.want_read or self.engine.want_write):
            transport.close()
        elif self.owing:
            for relay in list(self.owing):
                relay.settle()

    # -- its end ---------------------------------------------------------------------------------

    def close(self, reason: str, code: int = Code.NO_ERROR) -> None:
        """Say GOAWAY and hang up; calls that are not answered are given up."""
        if self._closing:
            return
        self._closing = True
        self._lifetime.busy_s = self.front.now_s()
        self.front.counted.count_closed(reason)
        if code != Code.NO_ERROR:
            with suppress(EngineError):
                self.engine.terminate_connection(code)
        self.spoken = True
        self.flush()

    def give_up(self) -> None:
        """The time for calls is over: answer every one that is left, and close."""
        for stream in list(self.streams.values()):
            stream.stop(at_once=True)
        self.close(Verdict.GRACE.value)

    def abort(self) -> None:
        """Hang up, now."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def retire(self, reason: str, *, grace_s: float, at_once: bool) -> None:
        """Ask the caller to open another connection; this one ends with its last call.

        Args:
            reason: for the metrics.
            grace_s: after which calls that are not done are answered UNAVAILABLE.
            at_once: take no further call; else those that cross our notice are still served.
        """
        if self._closing:
            return
        if not self._lifetime.retiring:
            self.front.counted.count_closed(reason)
        self._lifetime.retire(now_s=self.front.now_s(), grace_s=grace_s)
        try:
            if at_once:
                self.engine.send_goaway()
            else:
                self.engine.send_shutdown_notice()
                self.engine.ping(RETIRING)
        except EngineError:
            self.close("protocol")
            return
        if at_once:
            for stream in list(self.streams.values()):
                stream.stop(at_once=False)
        self.speak()

    def check(self, now_s: float, idle_timeout_s: float) -> None:
        """Look whether the connection has any future; called every second."""
        limits, transport = self.front.limits, self._transport
        if transport is None:
            return
        if self._closing:
            if now_s - self._lifetime.busy_s > limits.handshake_timeout_s:
                transport.abort()
            return
        self._lifetime.see_answers(
            now_s=now_s,
            queued=self.engine.queued_body_size(),
            buffered=transport.get_write_buffer_size(),
            written=self._written,
        )
        verdict = self._lifetime.verdict(
            now_s=now_s, has_calls=bool(self.streams), idle_timeout_s=idle_timeout_s
        )
        if verdict is Verdict.HANDSHAKE:
            self.close(verdict.value)
        elif verdict is Verdict.UNREAD:
            self.front.counted.count_closed(verdict.value)
            self.abort()
        elif verdict is Verdict.GRACE:
            self.give_up()
        elif verdict is Verdict.IDLE:
            self.retire(verdict.value, grace_s=limits.handshake_timeout_s, at_once=False)
        elif verdict is Verdict.AGE:
            self.retire(verdict.value, grace_s=limits.age_grace_s, at_once=False)
        for stream_id in self._early.late(now_s - limits.request_timeout_s):
            self.cut(stream_id)
