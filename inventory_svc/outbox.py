"""Outbox entries: what reserve.lua wrote, as the message that goes to Kafka. Pure."""

from functools import lru_cache
from typing import NamedTuple

from seckill.order_no import is_order_no
from seckill.v1 import events_pb2

# Batches of all sales that are on their way at the same time.
SHARED_PARTS_MAX = 1_024


class UndecodableEntry(ValueError):
    """An outbox entry is not what reserve.lua writes."""


class Entry(NamedTuple):
    """One entry of an outbox stream."""

    sku: str
    entry_id: bytes
    # The field `o`; None where the entry has no such field.
    payload: bytes | None
    # It was deleted by somebody else and is only still listed as pending.
    deleted: bool = False

    @property
    def made_at_s(self) -> float:
        """Unix time in seconds at which it was written, by the clock of Redis."""
        return int(self.entry_id.partition(b"-")[0]) / 1000


class Record(NamedTuple):
    """An entry as a Kafka record."""

    entry: Entry
    key: bytes
    value: bytes
    timestamp_ms: int


def to_record(entry: Entry) -> Record:
    """The record of an entry "order_no quantity epoch reserve_ms request_id user_id".

    Raises UndecodableEntry where the entry is anything else.
    """
    if entry.payload is None:
        raise UndecodableEntry("the entry has no field o")
    try:
        order_no, quantity, epoch, reserve_ms, request_id, user_id = entry.payload.decode(
            "ascii"
        ).split(" ")
        shared, timestamp_ms = _shared_part(entry.sku, quantity, epoch, reserve_ms)
    except ValueError as error:  # also a wrong number of words, and bytes that are no ASCII
        raise UndecodableEntry(str(error)) from error
    if not is_order_no(order_no) or not user_id:
        raise UndecodableEntry("order number or user is malformed")
    own = events_pb2.OrderReserved(order_no=order_no, user_id=user_id, request_id=request_id)
    return Record(entry, order_no.encode(), own.SerializeToString() + shared, timestamp_ms)


@lru_cache(maxsize=SHARED_PARTS_MAX)
def _shared_part(sku: str, quantity: str, epoch: str, reserve_ms: str) -> tuple[bytes, int]:
    """What the reservations of one batch have in common: (serialized, Unix time in ms).

    In protobuf's encoding messages one after another are their union. Raises ValueError.
    """
    event = events_pb2.OrderReserved(sku=sku, quantity=int(quantity), epoch=int(epoch))
    if event.quantity < 1:
        raise ValueError("quantity is malformed")
    timestamp_ms = int(reserve_ms)
    event.reserve_time.seconds, milliseconds = divmod(timestamp_ms, 1000)
    event.reserve_time.nanos = milliseconds * 1_000_000
    return event.SerializeToString(), timestamp_ms


def number_in(payload: bytes | None) -> str | None:
    """The order number that an entry begins with, readable otherwise or not; None without one."""
    first = (payload or b"").decode("ascii", errors="replace").partition(" ")[0]
    return first if is_order_no(first) else None
