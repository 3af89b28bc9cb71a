"""Request ids: one name for a call in the log lines of every service that handles it.

The id is that of the caller's trace (`traceparent`, https://www.w3.org/TR/trace-context/), or the
caller's `x-request-id`, which Envoy sets, or made up. It travels to the next service as
`x-request-id`, word for word, so that the edge's log has the same one.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    get_contextvars,
    unbind_contextvars,
)

from seckill.runtime import traceparent

HEADER = "x-request-id"
# Key of ErrorInfo.metadata.
METADATA_KEY = "request-id"
# Fields of log lines: the id, and of work for many calls, the first ids of these.
_FIELD = "request_id"
_CALLS_FIELD = "ids"
LOGGED_IDS_MAX = 20

# Long enough to be no other call's by accident; nothing that could break a line or a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")


def new() -> str:
    """Return an id that no other call has."""
    return uuid.uuid4().hex


def given(trace: str | None, request_id: str | None) -> str:
    """Return the id that a caller gave in these two header fields; empty for none."""
    traced = traceparent.PATTERN.fullmatch(trace) if trace else None
    if traced is not None:
        return traced.group(1)
    return request_id if request_id and _REQUEST_ID.fullmatch(request_id) else ""


def bind(request_id: str) -> None:
    """Give all lines that this task logs from now on the id."""
    bind_contextvars(**{_FIELD: request_id})


def bind_from(metadata: Iterable[tuple[str, Any]], *, passed_on: bool = False) -> None:
    """Bind the id of a call with this metadata.

    Args:
        passed_on: the service before has named the call: its `x-request-id` goes before a trace.
    """
    trace = request_id = None
    for key, value in metadata:
        if key == traceparent.HEADER:
            trace = value
        elif key == HEADER:
            request_id = value
    bind((passed_on and given(None, request_id)) or given(trace, request_id) or new())


@contextmanager
def batch() -> Iterator[None]:
    """Give the lines of what is done for many calls an id of its own; `name_calls` may say more."""
    with bound_contextvars(**{_FIELD: new()}):
        try:
            yield
        finally:
            unbind_contextvars(_CALLS_FIELD)


def name_calls(ids: Iterable[str]) -> None:
    """Say within `batch` of which calls it is: a single one's id is that of the batch, too."""
    known = [*islice(dict.fromkeys(filter(None, ids)), LOGGED_IDS_MAX)]
    if len(known) == 1:
        bind(known[0])
    elif known:
        bind_contextvars(**{_CALLS_FIELD: known})


def current() -> str:
    """Return the id that is bound; empty for none."""
    return str(get_contextvars().get(_FIELD, ""))


def outgoing() -> tuple[tuple[str, str], ...]:
    """Return the metadata that tells the next service the id that is bound; empty for none."""
    request_id = current()
    return ((HEADER, request_id),) if request_id else ()
