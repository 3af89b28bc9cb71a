"""Outbox entries: what the scripts wrote, as reservation events for Kafka. Pure.

An entry has one of two fields:

    b = epoch " " reserve_ms " " [call_id] 1*line
    line = "\\n" order_no " " quantity " " request_id " " user_id
    o = order_no " " quantity " " epoch " " reserve_ms " " request_id " " user_id

reserve.lua and repair.lua write the first, one entry for a batch; version 0.2 wrote the second, one
for each reservation. Both are read. The call id is that of log lines; one that is missing or
malformed is left out. An entry whose call is traced has the field `t`, too: its traceparent.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from inventory_svc.keys import sku_of
from seckill.order_no import is_order_no
from seckill.runtime import request_ids
from seckill.runtime.traceparent import TraceContext
from seckill.v1 import events_pb2

# Batches of all sales that are in flight at the same time.
SHARED_PARTS_MAX = 1_024
# Kafka's timestamps are numbers of 64 bits.
TIME_MS_MAX = 2**63 - 1
_NO_HEADERS: list[tuple[str, bytes]] = []
# The order number's shape as in seckill/order_no.py.
_LINE = re.compile(rb"([0-7][0-9A-HJKMNP-TV-Z]{25}) ([0-9]+) ([!-~]+) ([!-~]+)")
_SINGLE = re.compile(rb"(\S+ \S+) ([0-9]+ [0-9]+) (\S+ \S+)")


class Entry(NamedTuple):
    """One entry of an outbox stream."""

    # Key of the stream.
    outbox: str
    entry_id: bytes
    # The field `b` or `o`; None if the entry has neither.
    payload: bytes | None
    # Whether it is the field `b`.
    batch: bool = True
    # Another process has deleted it; it is only still listed as pending.
    deleted: bool = False
    # Where its call is in a trace; None if it is not traced.
    trace: TraceContext | None = None

    @property
    def sku(self) -> str:
        """Sku of the sale."""
        return sku_of(self.outbox)

    @property
    def place(self) -> tuple[str, bytes]:
        """What tells it from all others."""
        return self.outbox, self.entry_id

    @property
    def reservations(self) -> int:
        """Reservations in it, as the scripts count them."""
        return max(1, (self.payload or b"").count(b"\n")) if self.batch else 1

    @property
    def made_at_s(self) -> float:
        """Unix time in seconds at which it was written, by the clock of Redis."""
        return int(self.entry_id.partition(b"-")[0]) / 1000


class Record(NamedTuple):
    """A reservation as a Kafka record: its event."""

    entry: Entry
    key: bytes
    value: bytes
    timestamp_ms: int
    # The trace, of few; the event says all else.
    headers: list[tuple[str, bytes]] = _NO_HEADERS


class Unsendable(NamedTuple):
    """A reservation that cannot be sent, or an entry of which no reservation can be told."""

    entry: Entry
    # Its line in a batch, from 1 on; 0 for an entry as a whole.
    line: int
    text: bytes
    problem: str

    @property
    def number(self) -> str | None:
        """The order number that its text starts with; None without one."""
        return number_in(self.text)


def decode(entry: Entry) -> tuple[list[Record], list[Unsendable]]:
    """Return the entry's reservations: those that can be sent, and the others.

    One that is damaged does not keep the others of its batch from being sent.
    """
    if entry.payload is None:
        return [], [Unsendable(entry, 0, b"", "the entry has neither the field b nor o")]
    try:
        if not entry.batch:
            return [_single(entry, entry.payload)], []
        head, *lines = entry.payload.split(b"\n")
        epoch, reserve_ms, call_id = _batch_head(head)
    except ValueError as error:  # also a wrong number of words, and bytes that are no digits
        return [], _as_a_whole(entry, str(error))
    records: list[Record] = []
    unsendable: list[Unsendable] = []
    sku = entry.sku
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(entry, sku, line, epoch, reserve_ms, call_id))
        except ValueError as error:
            unsendable.append(Unsendable(entry, number, line, str(error)))
    if not lines:
        unsendable = _as_a_whole(entry, "the entry has no reservation")
    return records, unsendable


def refused(record: Record, problem: str) -> Unsendable:
    """Return the reservation of a record that was refused."""
    entry = record.entry
    payload = entry.payload or b""
    lines = payload.split(b"\n") if entry.batch else [payload]
    for number, line in enumerate(lines):
        if line.startswith(record.key):
            return Unsendable(entry, number, line, problem)
    raise ValueError("the record is not of its entry")


def number_in(text: bytes) -> str | None:
    """Return the order number that a text starts with, readable otherwise or not."""
    first = text.partition(b" ")[0].decode("ascii", errors="replace")
    return first if is_order_no(first) else None


def numbers_in(entry: Entry) -> set[str]:
    """Return the order numbers that the entry tells."""
    lines = (entry.payload or b"").split(b"\n")
    return {number for line in lines if (number := number_in(line))}


def _as_a_whole(entry: Entry, problem: str) -> list[Unsendable]:
    """Return what an entry without a readable first line has: its further lines, or all of it."""
    payload = entry.payload or b""
    head, *lines = payload.split(b"\n") if entry.batch else [payload]
    if not lines or number_in(head):
        lines = [head, *lines]
    first = 0 if lines[0] is head else 1
    return [Unsendable(entry, n, line, problem) for n, line in enumerate(lines, start=first)]


def _single(entry: Entry, payload: bytes) -> Record:
    found = _SINGLE.fullmatch(payload)
    if found is None:
        raise ValueError("these are not the six words of a reservation")
    start, middle, end = found.groups()
    epoch, reserve_ms = (int(word) for word in middle.split(b" "))
    return _record(entry, entry.sku, start + b" " + end, epoch, reserve_ms)


def _batch_head(head: bytes) -> tuple[int, int, str]:
    """Return epoch, time in ms and call id of a batch's first line. Raises ValueError."""
    epoch, reserve_ms, *rest = head.split(b" ")
    if len(rest) > 1:
        raise ValueError("these are not the three words of a first line")
    call_id = rest[0].decode("ascii", errors="replace") if rest else ""
    return int(epoch), int(reserve_ms), request_ids.given(None, call_id)


def _record(
    entry: Entry, sku: str, line: bytes, epoch: int, reserve_ms: int, call_id: str = ""
) -> Record:
    """Return the record of "order_no quantity request_id user_id". Raises ValueError."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("these are not the four words of a reservation")
    order_no, quantity, request_id, user_id = found.groups()
    own = events_pb2.OrderReserved(
        order_no=order_no.decode(), user_id=user_id.decode(), request_id=request_id.decode()
    )
    shared = _shared_part(sku, quantity, epoch, reserve_ms, call_id)
    return Record(entry, order_no, own.SerializeToString() + shared, reserve_ms)


@lru_cache(maxsize=SHARED_PARTS_MAX)
def _shared_part(sku: str, quantity: bytes, epoch: int, reserve_ms: int, call_id: str) -> bytes:
    """Return what the reservations of one batch share, serialized. Raises ValueError.

    In protobuf's encoding messages one after another are their union.
    """
    event = events_pb2.OrderReserved(sku=sku, quantity=int(quantity), epoch=epoch, call_id=call_id)
    if event.quantity < 1 or not 0 <= reserve_ms <= TIME_MS_MAX:
        raise ValueError("quantity or time is malformed")
    event.reserve_time.seconds, milliseconds = divmod(reserve_ms, 1000)
    event.reserve_time.nanos = milliseconds * 1_000_000
    return event.SerializeToString()
