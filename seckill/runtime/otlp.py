"""Sends spans to a collector by OTLP over HTTP, in JSON (https://opentelemetry.io/docs/specs/otlp/).

A task sends them in batches; a collector that is slow or away costs spans, never a call.
"""

import asyncio
import json
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import structlog

from seckill.runtime.spans import DROPPED, EXPORTED, FAILED, Kind, Span, Value
from seckill.runtime.trace_settings import TraceSettings
from seckill.version import VERSION

# Where a collector takes spans.
PATH = "/v1/traces"
# Spans in one request: encoding them holds the process up for a millisecond.
BATCH_MAX = 100
# The name under which all services of the mesh are found.
NAMESPACE = "seckill"
# Numbers of OTLP's enums, which JSON has instead of names.
_KINDS: dict[Kind, int] = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_ERROR = 2
_SAMPLED = 1
Json = dict[str, Any]
log = structlog.get_logger()


class OtlpRecorder:
    """Keeps spans until they are sent, so many at most."""

    def __init__(
        self, settings: TraceSettings, session: aiohttp.ClientSession, *, service: str
    ) -> None:
        """`service`: the name of the process in traces."""
        self._url = settings.traces_endpoint.rstrip("/") + PATH
        self._queue_max = settings.traces_queue_max
        self._interval_s = settings.traces_interval_s
        self._session = session
        self._resource = _attributes(
            {
                "service.namespace": NAMESPACE,
                "service.name": service,
                "service.version": VERSION,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        self._queue: deque[Json] = deque()
        self._away = False

    def record(self, span: Span, *, start_ns: int, end_ns: int, error: str) -> None:
        """Queue a span; only count it if the queue is full."""
        if len(self._queue) >= self._queue_max:
            DROPPED.inc()
            return
        self._queue.append(encode(span, start_ns=start_ns, end_ns=end_ns, error=error))

    async def run(self, ends: asyncio.Event) -> None:
        """Send what has gathered, again and again, and once more when it `ends`."""
        ended = False
        while not ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await ends.wait()
            ended = ends.is_set()
            await self._flush()

    async def _flush(self) -> None:
        """Send what is there now, up to the first batch that is not taken."""
        for _ in range(-(-len(self._queue) // BATCH_MAX)):
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            if not await self._send(batch):
                return

    async def _send(self, batch: Sequence[Json]) -> bool:
        problem = await self._post(batch)
        if problem:
            FAILED.inc(len(batch))
            if not self._away:
                log.warning("spans not taken by the collector", url=self._url, error=problem)
        else:
            EXPORTED.inc(len(batch))
            if self._away:
                log.info("spans taken again", url=self._url)
        self._away = bool(problem)
        return not problem

    async def _post(self, batch: Sequence[Json]) -> str:
        """Return why the collector did not take them; "" if it did."""
        scope = {"name": NAMESPACE, "version": VERSION}
        group = {
            "resource": {"attributes": self._resource},
            "scopeSpans": [{"scope": scope, "spans": batch}],
        }
        body = json.dumps({"resourceSpans": [group]}, separators=(",", ":")).encode()
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                return "" if answer.status == 200 else f"answered {answer.status}"
        except Exception as error:  # noqa: BLE001 - whatever it is, only spans are lost by it
            return str(error) or type(error).__name__


def encode(span: Span, *, start_ns: int, end_ns: int, error: str) -> Json:
    """Return a span as OTLP has it in JSON: ids in hex, 64 bits as text, enums as numbers."""
    trace_id, span_id, _ = span.context
    attributes = {**span.attributes, "error.type": error} if error else span.attributes
    encoded: Json = {
        "traceId": f"{trace_id:032x}",
        "spanId": f"{span_id:016x}",
        "flags": _SAMPLED,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": _attributes(attributes),
    }
    if span.parent is not None:
        encoded["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.links:
        encoded["links"] = [
            {"traceId": f"{link.trace_id:032x}", "spanId": f"{link.span_id:016x}"}
            for link in span.links
        ]
    if error:
        encoded["status"] = {"code": _ERROR, "message": error}
    return encoded


def _attributes(values: dict[str, Value]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


@asynccontextmanager
async def open_recorder(settings: TraceSettings, *, service: str) -> AsyncIterator[OtlpRecorder]:
    """Open a recorder; at the end it sends what is left, for two timeouts at most."""
    timeout = aiohttp.ClientTimeout(total=settings.traces_timeout_s)
    encrypted = settings.traces_endpoint.startswith("https://")
    tls = ssl.create_default_context(cafile=settings.traces_tls_ca or None) if encrypted else False
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=1), timeout=timeout
    ) as session:
        recorder = OtlpRecorder(settings, session, service=service)
        ends = asyncio.Event()
        sending = asyncio.create_task(recorder.run(ends), name="traces")
        try:
            yield recorder
        finally:
            ends.set()
            await sending
