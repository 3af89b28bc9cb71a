"""The first bytes of a connection say which version of HTTP the caller speaks.

HTTP/2 begins with `PRI `, which no method of HTTP/1.1 is called. Over TLS the two have agreed on
the version before (ALPN). Our own greeting waits for it: it would be garbage in HTTP/1.1.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.front.connection import CallerConnection
from gateway.front.rest.http1 import Http1Connection

if TYPE_CHECKING:
    from gateway.front.http2 import Http2Front

PREFACE = b"PRI "
HTTP_2, HTTP_1 = "h2", "http/1.1"


class FirstBytes(asyncio.Protocol):
    """Waits for them, then hands the connection over."""

    def __init__(self, front: "Http2Front") -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._opened_s = front.now_s()
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._front.accept(self):
            self.abort()
            return
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            agreed = encrypted.selected_alpn_protocol()
            # A client that names no version speaks the one that is older than ALPN.
            self._hand_over(CallerConnection if agreed == HTTP_2 else Http1Connection)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        first = self._seen[: len(PREFACE)]
        if first == PREFACE:
            self._hand_over(CallerConnection)
        elif not PREFACE.startswith(first):
            self._hand_over(Http1Connection)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._front.lost(self)

    def _hand_over(self, kind: type[CallerConnection] | type[Http1Connection]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._front.lost(self)
        protocol = kind(self._front)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._seen and not transport.is_closing():
            protocol.data_received(self._seen)

    def check(self, now_s: float, idle_timeout_s: float) -> None:
        """Close a connection that stays silent; called every second."""
        # When there are many connections those without a call make room early.
        silent_s = min(self._front.limits.handshake_timeout_s, idle_timeout_s)
        if now_s - self._opened_s > silent_s:
            self._front.metrics.count_closed("handshake")
            self.abort()

    def retire(self, reason: str, *, grace_s: float, at_once: bool) -> None:
        """End: there is no call."""
        del grace_s, at_once
        self._front.metrics.count_closed(reason)
        self.abort()

    def give_up(self) -> None:
        """End: there is no call."""
        self.abort()

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
