"""What is traced, how callers may ask for it, and what becomes of spans."""

import math
import random
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from devstack.certificates import load_or_create
from devstack.ports import LOOPBACK
from seckill.runtime import traceparent, tracing
from seckill.runtime.spans import TRACE_SPANS_TOTAL, Tracer
from seckill.runtime.trace_settings import TraceSettings
from seckill.runtime.traced import traced
from seckill.runtime.traceparent import TraceContext
from tests.kits.collector import collecting
from tests.kits.rollback import free_address
from tests.kits.tracing import SAMPLED, TRACE_ID, Clock, Kept
from tests.kits.waiting import eventually


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Trace in this process, nothing unless it is asked for, and keep what ends."""
    kept = Kept()
    with tracing.installed(Tracer(kept, share=0, errors_per_s_max=2)):
        yield kept


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (SAMPLED, True),
        (SAMPLED[:-2] + "00", False),
        (SAMPLED[:-2] + "ff", True),
        (f"cc-{SAMPLED[3:]}-what-comes-later", True),
        (f"{SAMPLED}-more", None),
        (SAMPLED.upper(), None),
        (SAMPLED[:-1], None),
        (SAMPLED.replace("-", "_"), None),
        (f"ff-{SAMPLED[3:]}", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (f"{SAMPLED},{SAMPLED}", None),
        (f"{SAMPLED}\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_malformed_traceparent_is_none(header: str | None, sampled: bool | None) -> None:
    """What is well formed names trace and parent, and says whether they are traced."""
    found = traceparent.parse(header)
    assert (None if found is None else found.sampled) == sampled


@given(st.text())
def test_no_text_breaks_the_reading_of_a_header(text: str) -> None:
    """Whatever a caller sends, it is a place or none."""
    found = traceparent.parse(text)
    assert found is None or traceparent.parse(found.header) == found


@given(share=st.floats(0.001, 1), counts=st.lists(st.integers(1, 600), max_size=50))
def test_the_chosen_are_among_those_that_were_asked_for(share: float, counts: list[int]) -> None:
    """Each at most once, in order."""
    tracer = Tracer(Kept(), share=share, errors_per_s_max=0, rng=random.Random(1))
    for count in counts:
        chosen = [*tracer.roots(count)]
        assert chosen == sorted(set(chosen))
        assert all(0 <= index < count for index in chosen)


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0, 0, 0), (0.01, 850, 1150), (1, 10**5, 10**5)]
)
def test_the_share_is_kept(share: float, least: int, most: int) -> None:
    """Whatever the sizes of batches."""
    rng = random.Random(7)
    tracer = Tracer(Kept(), share=share, errors_per_s_max=0, rng=rng)
    left, chosen = 10**5, 0
    while left:
        count = min(left, rng.choice((1, 3, 100, 512)))
        chosen += len(tracer.roots(count))
        left -= count
    assert least <= chosen <= most


def test_a_flood_of_callers_that_ask_to_be_traced_is_bounded() -> None:
    """So many a second; after that the share decides, which is none here."""
    clock = Clock()
    tracer = Tracer(
        Kept(), share=0, errors_per_s_max=0, is_first=True, callers_per_s_max=3, clock=clock
    )
    asking = TraceContext(1, 2, sampled=True)
    assert [tracer.wants(asking) for _ in range(5)] == [True, True, True, False, False]
    clock.now_s += 1
    assert tracer.wants(asking)


def test_who_asks_not_to_be_traced_is_not() -> None:
    """Though the share is everything."""
    tracer = Tracer(Kept(), share=1, errors_per_s_max=0, is_first=True, callers_per_s_max=math.inf)
    assert not tracer.wants(TraceContext(1, 2, sampled=False))
    assert tracer.wants(None)


def test_a_service_behind_the_first_decides_nothing_itself() -> None:
    """It follows the one before, which has decided."""
    tracer = Tracer(Kept(), share=1, errors_per_s_max=0)
    assert not tracer.wants(None)
    assert tracer.wants(TraceContext(1, 2, sampled=True))


def test_failed_work_has_a_span_under_its_request_id_though_nothing_is_sampled(kept: Kept) -> None:
    """So many a second, and it says by what it failed, in no words of a library."""
    for _ in range(3):
        with (
            pytest.raises(ValueError, match="secret"),
            tracing.work("work", "internal", {"of": 1}, root=True),
        ):
            raise ValueError("a secret")
    assert [(span.name, error) for span, error in kept.spans] == [("work", "ValueError")] * 2
    assert kept.spans[0][0].parent is None


def test_steps_are_below_their_work_and_lines_name_the_trace(kept: Kept) -> None:
    """Inside, and not after it."""
    cause = TraceContext(5, 6)
    with tracing.work("work", "consumer", {}, causes=[cause, TraceContext(7, 8)]) as work:
        assert work is not None
        with tracing.step("step", "client", {}) as step:
            assert step is not None
            assert step.parent == work.context
            assert get_contextvars()["trace_id"] == f"{5:032x}"
        assert dict(tracing.outgoing())["traceparent"] == work.context.header
    assert "trace_id" not in get_contextvars()
    assert work.parent == cause
    assert work.links == [cause, TraceContext(7, 8)]
    assert [span.name for span, _ in kept.spans] == ["step", "work"]


def test_what_is_not_traced_has_no_steps(kept: Kept) -> None:
    """And passes no trace on."""
    with (
        tracing.work("work", "internal", {}, root=True),
        tracing.step("step", "client", {}) as step,
    ):
        assert step is None
        assert "traceparent" not in dict(tracing.outgoing())
    assert not kept.spans


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    """Nor what would send spans: by no service, nor as its settings turn traces on or not.

    redis-py asks for the package itself, which is an empty one of xds-protos.
    """
    code = (
        "import asyncio, sys, gateway.__main__, inventory_svc.__main__, order_svc.__main__,"
        " rollback_svc.__main__, edge.__main__\n"
        "from seckill.runtime import tracing\n"
        "from seckill.runtime.trace_settings import TraceSettings\n"
        "from seckill.runtime.traced import traced\n"
        "async def off():\n"
        "    async with traced(TraceSettings(traces_endpoint=''), service='gateway'):\n"
        "        assert tracing.tracer is None\n"
        "        print([name for name in sys.modules if name.startswith('opentelemetry.')])\n"
        "        print('seckill.runtime.otlp' in sys.modules)\n"
        "asyncio.run(off())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFalse\n"


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:4317",
        "ftp://x:1",
        "http://x",
        "http://x:99999",
        "http://u:p@x:1",
        "http://x:1/v1",
    ],
)
def test_an_endpoint_that_is_none_is_refused_by_name(endpoint: str) -> None:
    """By what it has to be."""
    with pytest.raises(ValueError, match="is not http://host:port or https://host:port"):
        TraceSettings(traces_endpoint=endpoint)


async def test_spans_are_taken_by_a_collector_as_they_were_made() -> None:
    """With ids, times, links, kind and attributes; an error says its type."""
    async with collecting() as collector:
        settings = TraceSettings(traces_endpoint=collector.endpoint, traces_interval_s=0.02)
        async with traced(settings, service="gateway"):
            tracer = tracing.tracer
            assert tracer is not None
            parent = TraceContext(int(TRACE_ID, 16), 9)
            span = tracer.begin("made", "producer", parent=parent)
            span.attributes["units"] = 3
            span.links.append(TraceContext(7, 8))
            tracer.end(span, error="UNAVAILABLE")
            seen = await collector.span("made")
    assert seen.service == "gateway"
    assert seen.place == (TRACE_ID, f"{span.context.span_id:016x}")
    assert (seen.kind, seen.parent_id) == ("PRODUCER", f"{9:016x}")
    assert seen.links == ((f"{7:032x}", f"{8:016x}"),)
    assert seen.attributes == {"units": 3, "error.type": "UNAVAILABLE"}
    assert seen.error == "UNAVAILABLE"
    assert seen.start_ns <= seen.end_ns


async def test_a_collector_with_tls_is_checked_against_its_authority(tmp_path: Path) -> None:
    """One whose authority is unknown gets nothing; a file that is none is refused by name."""
    files = load_or_create(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.server, files.server_key)
    failed = count("failed")
    async with collecting(tls=tls) as collector:
        for authority in ("", str(files.authority)):
            settings = TraceSettings(
                traces_endpoint=collector.endpoint,
                traces_tls_ca=authority,
                traces_interval_s=0.02,
            )
            async with traced(settings, service="gateway"):
                tracer = tracing.tracer
                assert tracer is not None
                tracer.end(tracer.begin(f"by {bool(authority)}", "internal", parent=None))
        await collector.span("by True")
        assert [span.name for span in collector.spans] == ["by True"]
    assert count("failed") == failed + 1
    with pytest.raises(ValueError, match="traces_tls_ca"):
        TraceSettings(traces_tls_ca=str(files.server_key))


def count(result: str) -> float:
    """Return how many spans had this fate."""
    return float(TRACE_SPANS_TOTAL.labels(result)._value.get())


async def test_a_collector_that_is_away_costs_spans_and_is_told_once() -> None:
    """Each span is counted, the queue is bounded, and the collector is found when it comes."""
    failed, dropped = count("failed"), count("dropped")
    address = free_address()
    port = int(address.rpartition(":")[2])
    settings = TraceSettings(
        traces_endpoint=f"http://{LOOPBACK}:{port}",
        traces_interval_s=0.02,
        traces_timeout_s=0.2,
        traces_queue_max=512,
    )
    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(traced(settings, service="gateway"))
            tracer = tracing.tracer
            assert tracer is not None

            def make(number: int) -> None:
                for _ in range(number):
                    tracer.end(tracer.begin("lost", "internal", parent=None))

            make(5_000)
            assert count("dropped") - dropped >= 5_000 - 2 * 512

            async def failures() -> float:
                return count("failed") - failed

            seen = await eventually(failures, lambda number: number > 0)
            make(1)
            await eventually(failures, lambda number: number > seen)
            async with collecting(port) as collector:

                async def found() -> bool:
                    make(1)
                    return bool(collector.spans)

                await eventually(found, bool)
                await stack.aclose()
    told = [line["event"] for line in lines if "spans" in line["event"]]
    assert told == ["spans not taken by the collector", "spans taken again"]
    (line,) = [line for line in lines if line["event"] == told[0]]
    assert line["url"] == f"{settings.traces_endpoint}/v1/traces"
    assert line["error"]
