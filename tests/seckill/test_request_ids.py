"""Which id a call has, and how it travels."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from seckill.runtime import request_ids

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
UUID = "0b1f6a50-6c1f-4ad5-9d6f-2c7b1f0b8a11"


@pytest.mark.parametrize(
    ("trace", "request_id", "expected"),
    [
        (TRACE, UUID, TRACE_ID),
        (f"cc-{TRACE[3:]}-what-comes-later", None, TRACE_ID),
        (None, UUID, UUID),
        (f"ff-{TRACE[3:]}", UUID, UUID),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", UUID, UUID),
        (f"00-{TRACE_ID}-{'0' * 16}-01", UUID, UUID),
        (TRACE.upper(), UUID, UUID),
        (TRACE[:-1], UUID, UUID),
        (None, "short", ""),
        (None, "x" * 65, ""),
        (None, 'quoted"id', ""),
        (None, "line\nbreak", ""),
        (None, None, ""),
    ],
)
def test_the_trace_names_a_call_then_its_request_id(
    trace: str | None, request_id: str | None, expected: str
) -> None:
    """What is malformed counts as absent."""
    assert request_ids.given(trace, request_id) == expected


@given(trace=st.text(), request_id=st.text())
def test_no_text_of_a_caller_breaks_a_line_or_a_header(trace: str, request_id: str) -> None:
    """An id is short and of few characters, or there is none."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,64}", request_ids.given(trace, request_id))


def test_a_call_without_an_id_gets_one_and_passes_it_on() -> None:
    """As `x-request-id`, which the next service takes as it is."""
    with bound_contextvars():
        assert request_ids.outgoing() == ()
        request_ids.bind_from([("user-agent", "x")])
        first = request_ids.current()
        assert request_ids.outgoing() == (("x-request-id", first),)
        request_ids.bind_from(request_ids.outgoing())
        assert request_ids.current() == first
        request_ids.bind_from([])
        assert request_ids.current() not in ("", first)
    # The test's own context.
    request_ids.bind("")
