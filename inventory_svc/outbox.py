"""Outbox entries: what reserve.lua wrote, as the message that goes to Kafka. Pure."""

from dataclasses import dataclass

from seckill.order_no import is_order_no
from seckill.v1 import events_pb2


class UndecodableEntry(ValueError):
    """An outbox entry is not what reserve.lua writes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an outbox stream."""

    sku: str
    entry_id: bytes
    # The field `o`; None where the entry has no such field.
    payload: bytes | None
    # It was deleted by somebody else and is only still listed as pending.
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Record:
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
        event = events_pb2.OrderReserved(
            order_no=order_no,
            sku=entry.sku,
            user_id=user_id,
            request_id=request_id,
            quantity=int(quantity),
            epoch=int(epoch),
        )
        timestamp_ms = int(reserve_ms)
        event.reserve_time.seconds, milliseconds = divmod(timestamp_ms, 1000)
        event.reserve_time.nanos = milliseconds * 1_000_000
    except ValueError as error:  # also a wrong number of words, and bytes that are no ASCII
        raise UndecodableEntry(str(error)) from error
    if not is_order_no(order_no) or event.quantity < 1 or not user_id:
        raise UndecodableEntry("order number, quantity or user is malformed")
    return Record(
        entry=entry,
        key=order_no.encode(),
        value=event.SerializeToString(),
        timestamp_ms=timestamp_ms,
    )


def order_in(payload: bytes | None) -> tuple[str, str] | None:
    """(order number, user) of an undecodable entry, if they can still be told."""
    words = (payload or b"").decode("ascii", errors="replace").split(" ")
    if len(words) > 1 and is_order_no(words[0]) and words[-1]:
        return words[0], words[-1]
    return None
