"""A collector of traces: a server of OTLP over HTTP, which keeps what it is sent."""

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest
from opentelemetry.proto_json.common.v1.common import AnyValue, KeyValue
from opentelemetry.proto_json.trace.v1.trace import Span, Status

from devstack.ports import LOOPBACK
from tests.kits.waiting import TIMEOUT_S, Signal


@dataclass(frozen=True)
class Seen:
    """A span as it was received; ids in hex, "" for no parent.

    Attributes:
        links: (trace id, span id) each.
        error: what its status says; None if it is no error.
        start_ns, end_ns: Unix time.
    """

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    error: str | None
    start_ns: int
    end_ns: int

    @property
    def place(self) -> tuple[str, str]:
        """What links to it say."""
        return self.trace_id, self.span_id


@dataclass
class Collector:
    """What has been received, and the settings of services that send to it."""

    port: int = 0
    scheme: str = "http"
    spans: list[Seen] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)

    @property
    def endpoint(self) -> str:
        """The value of SECKILL_TRACES_ENDPOINT."""
        return f"{self.scheme}://{LOOPBACK}:{self.port}"

    def settings(self, *, share: float = 1.0, **more: str) -> dict[str, str]:
        """Return the variables of services that send all at once."""
        return {
            "SECKILL_TRACES_ENDPOINT": self.endpoint,
            "SECKILL_TRACES_SHARE": str(share),
            "SECKILL_TRACES_INTERVAL_S": "0.05",
            **more,
        }

    def trace(self, trace_id: str) -> list[Seen]:
        """Return the spans of a trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    async def until(
        self, look: Callable[[Sequence[Seen]], Any], *, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Wait until `look` at all spans returns something true, and return that."""
        return await self.changed.until(lambda: look(self.spans), timeout_s=timeout_s)

    async def span(self, name: str, **wanted: object) -> Seen:
        """Wait for the first span of this name, with these fields."""

        def look(spans: Iterable[Seen]) -> Seen | None:
            for span in spans:
                if span.name == name and all(
                    getattr(span, key) == value for key, value in wanted.items()
                ):
                    return span
            return None

        found: Seen = await self.until(look)
        return found

    async def handle(self, request: web.Request) -> web.Response:
        """Take an ExportTraceServiceRequest, as OpenTelemetry's own code reads it."""
        sent = ExportTraceServiceRequest.from_json(await request.text())
        for group in sent.resource_spans:
            assert group.resource is not None
            service = str(_attributes(group.resource.attributes)["service.name"])
            for scope in group.scope_spans:
                self.spans += [_seen(service, span) for span in scope.spans]
        self.changed.notify()
        return web.json_response({})


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key or "": _value(pair.value) for pair in pairs}


def _value(value: AnyValue | None) -> Any:
    assert value is not None
    kinds = (value.string_value, value.int_value, value.bool_value, value.double_value)
    return next(one for one in kinds if one is not None)


def _seen(service: str, span: Span) -> Seen:
    status = span.status or Status()
    failed = status.code == Status.StatusCode.STATUS_CODE_ERROR
    return Seen(
        service=service,
        name=span.name or "",
        kind=Span.SpanKind(span.kind or 0).name.removeprefix("SPAN_KIND_"),
        trace_id=(span.trace_id or b"").hex(),
        span_id=(span.span_id or b"").hex(),
        parent_id=(span.parent_span_id or b"").hex(),
        links=tuple(
            ((link.trace_id or b"").hex(), (link.span_id or b"").hex()) for link in span.links
        ),
        attributes=_attributes(span.attributes),
        error=(status.message or "") if failed else None,
        start_ns=span.start_time_unix_nano or 0,
        end_ns=span.end_time_unix_nano or 0,
    )


@asynccontextmanager
async def collecting(
    port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Collector]:
    """Receive on a free port, or on this one, in the test's own loop; with `tls` encrypted."""
    collector = Collector(scheme="http" if tls is None else "https")
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", collector.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
    collector.port = runner.addresses[0][1]
    try:
        yield collector
    finally:
        await runner.cleanup()
