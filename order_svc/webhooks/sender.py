"""Sends a webhook: one signed POST, and its result."""

import email.utils
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.message import CONTENT_TYPE, Webhook
from order_svc.webhooks.signature import sign
from seckill.runtime import traceparent, tracing
from seckill.runtime.clock import Clock

USER_AGENT = "seckill-order-svc"
# Of a refusal's body, for operators. The rest is never read.
EXCERPT_BYTES_MAX = 512
# Shorter than the five seconds after which common servers close an idle connection: a request on a
# connection that is being closed fails.
KEEPALIVE_S = 4.0
TOO_MANY_REQUESTS, UNAVAILABLE, GONE = 429, 503, 410


@dataclass(frozen=True)
class Answer:
    """The result of an attempt.

    Attributes:
        status: HTTP status; None without an answer.
        error: what was wrong; "" if it was delivered. Never part of the address or a secret.
        retry_after_s: how long the endpoint asked not to be called; 0 if it did not ask.
    """

    status: int | None = None
    error: str = ""
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the endpoint has accepted it."""
        return not self.error

    @property
    def gone(self) -> bool:
        """Whether the endpoint asks for no further events."""
        return self.status == GONE


class WebhookSender:
    """Sends webhooks over a session's connections."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def send(self, endpoint: Endpoint, webhook: Webhook) -> Answer:
        """Send once, within the timeout of the session. Redirects are refusals."""
        timestamp_s = int(self._clock.now_s())
        headers = {
            "content-type": CONTENT_TYPE,
            "webhook-id": webhook.message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(
                endpoint.keys(),
                message_id=webhook.message_id,
                timestamp_s=timestamp_s,
                body=webhook.body,
            ),
        }
        span = tracing.current()
        if span is not None:
            headers[traceparent.HEADER] = span.context.header
        try:
            async with self._session.post(
                endpoint.url, data=webhook.body, headers=headers, allow_redirects=False
            ) as response:
                if 200 <= response.status < 300:
                    return Answer(response.status)
                return await self._refusal(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(error=_explain(error))

    async def _refusal(self, response: aiohttp.ClientResponse) -> Answer:
        error = f"answered {response.status}"
        if excerpt := await _excerpt(response):
            error += f": {excerpt}"
        retry_after_s = 0.0
        if response.status in {TOO_MANY_REQUESTS, UNAVAILABLE}:
            text = response.headers.get("retry-after", "")
            retry_after_s = parse_retry_after(text, now_s=self._clock.now_s())
        return Answer(response.status, error, retry_after_s)


def parse_retry_after(text: str, *, now_s: float) -> float:
    """Return the seconds until the header Retry-After (RFC 9110, 10.2.3) allows another request.

    0 if the moment is over, or the text is neither a number nor a date.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment_s = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, moment_s - now_s)


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    """Return the first bytes of a body as one printable line; "" if there are none."""
    try:
        data = await response.content.read(EXCERPT_BYTES_MAX)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return ""
    text = data.decode("utf-8", errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _explain(error: Exception) -> str:
    # The library's own texts quote addresses, which may hold tokens.
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"certificate refused: {error.certificate_error!s}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "unreachable: unknown host name"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return f"unreachable: {os.strerror(number) if number else type(error).__name__}"
    return f"broken off: {type(error).__name__}"


@asynccontextmanager
async def open_sender(clock: Clock, *, timeout_s: float) -> AsyncIterator[WebhookSender]:
    """Open a sender with its connections.

    Args:
        clock: dates the signatures.
        timeout_s: how long an attempt may take, from the name's resolution to the answer.
    """
    async with aiohttp.ClientSession(
        # Dispatchers bound their requests; a common bound would let one endpoint starve another.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        # A body that is compressed nevertheless is not expanded.
        auto_decompress=False,
    ) as session:
        yield WebhookSender(session, clock)
