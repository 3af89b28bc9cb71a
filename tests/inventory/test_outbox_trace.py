"""A trace survives in the outbox, and takes room in those entries alone that are traced."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from devstack import ValkeyServer
from inventory_svc.keys import outbox_key
from inventory_svc.outbox.entry import Entry, decode
from inventory_svc.outbox.produce_spans import spans_of
from inventory_svc.outbox.streams import _entries
from seckill.runtime import tracing
from seckill.runtime.kafka_writer import Delivery
from seckill.runtime.spans import Tracer
from tests.kits.inventory import StockKit, attempt
from tests.kits.tracing import CALLER, Kept

CALL_ID = "call-0001"


@pytest.fixture
async def kit(server: ValkeyServer) -> AsyncIterator[StockKit]:
    """Stock on that server."""
    kit = StockKit(server.url)
    yield kit
    await kit.close()


async def written(kit: StockKit, sku: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the entries of the outbox, as Redis has them."""
    entries: Any = await kit.redis.xrange(outbox_key(sku))
    return list(entries)


async def test_only_entries_of_traced_calls_have_a_trace(kit: StockKit) -> None:
    """The call id stands where it stood, and others have not a byte more."""
    kept, sku = Kept(), await kit.load()
    with (
        tracing.installed(Tracer(kept, share=0, errors_per_s_max=0)) as tracer,
        bound_contextvars(request_id=CALL_ID),
    ):
        await kit.reserve(sku, attempt())
        call = tracer.begin("call", "server", parent=CALLER)
        with tracing.below(call):
            await kit.reserve(sku, attempt(), attempt())
    (_, plain), (_, traced) = await written(kit, sku)
    assert [*plain] == [b"b"]
    assert [*traced] == [b"b", b"t"]
    assert traced[b"t"].decode() == call.context.header
    heads = [fields[b"b"].split(b"\n")[0].split() for fields in (plain, traced)]
    assert [head[2].decode() for head in heads] == [CALL_ID, CALL_ID]
    # As a relay that knows nothing of traces reads them.
    for fields, count in ((plain, 1), (traced, 2)):
        records, damaged = decode(Entry(outbox_key(sku), b"1-0", fields[b"b"]))
        assert (len(records), damaged) == (count, [])
    (script,) = kept.named("EVALSHA reserve")
    assert script.parent == call.context
    assert script.attributes["db.operation.batch.size"] == 2


@pytest.mark.parametrize("text", [b"", b"x", b"\xff", CALLER.header.upper().encode()])
async def test_a_damaged_trace_is_none(text: bytes) -> None:
    """The reservations are sent all the same."""
    line = b"1 1 call-0001\n01ARZ3NDEKTSV4RRFFQ69G5FAV 1 r1 u1"
    (entry,) = _entries("seckill:outbox:{x}", [(b"1-0", {b"b": line, b"t": text})])
    assert entry.trace is None
    records, damaged = decode(entry)
    assert (len(records), damaged) == (1, [])


async def test_each_traced_entry_has_a_span_that_its_messages_name() -> None:
    """Another entry's messages have no header; a failure of Kafka is told."""
    lines = b"1 1 call-0001\n01ARZ3NDEKTSV4RRFFQ69G5FAV 1 r1 u1\n01ARZ3NDEKTSV4RRFFQ69G5FAW 1 r2 u2"
    entries = [
        Entry("seckill:outbox:{x}", b"1-0", lines),
        Entry("seckill:outbox:{x}", b"2-0", lines, trace=CALLER),
    ]
    kept = Kept()
    with tracing.installed(Tracer(kept, share=0, errors_per_s_max=0)):
        assert spans_of(entries[:1], "orders") is None
        spans = spans_of(entries, "orders")
        assert spans is not None
        records = spans.begin([record for entry in entries for record in decode(entry)[0]])
        spans.end(Delivery(error=TimeoutError()))
    ((span, error),) = kept.spans
    assert (span.name, span.kind, span.parent, error) == (
        *("send orders", "producer", CALLER, "TimeoutError"),
    )
    assert span.attributes["messaging.batch.message_count"] == 2
    header = [("traceparent", span.context.header.encode())]
    assert [record.headers for record in records] == [[], [], header, header]
