"""Outbox entries as Kafka records."""

import pytest

from inventory_svc.outbox import Entry, UndecodableEntry, number_in, to_record
from seckill.v1 import events_pb2

ORDER_NO = "01JD0Z0000AAAAAAAAAAAAAAAA"
PAYLOAD = f"{ORDER_NO} 2 3 1700000000123 request-1 buyer-1".encode()


def entry(payload: bytes | None) -> Entry:
    """An entry of the outbox."""
    return Entry(sku="sku-1", entry_id=b"1-0", payload=payload)


def test_record_has_all_that_the_order_needs() -> None:
    """Key, time and message come from the entry and its stream."""
    record = to_record(entry(PAYLOAD))
    event = events_pb2.OrderReserved.FromString(record.value)
    assert record.key == ORDER_NO.encode()
    assert record.timestamp_ms == event.reserve_time.ToMilliseconds() == 1_700_000_000_123
    assert (event.sku, event.user_id, event.request_id) == ("sku-1", "buyer-1", "request-1")
    assert (event.quantity, event.epoch) == (2, 3)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"",
        b"\xff\xfe",
        PAYLOAD + b" more",
        PAYLOAD.rpartition(b" ")[0],
        PAYLOAD.replace(b" 2 3", b" two 3"),
        PAYLOAD.replace(b" 2 3", b" 0 3"),
        PAYLOAD.replace(b" 2 3", b" 99999999999 3"),
        PAYLOAD.replace(b"01JD", b"what"),
        PAYLOAD.replace(b"buyer-1", b""),
    ],
)
def test_anything_else_is_undecodable(payload: bytes | None) -> None:
    """Whatever reserve.lua would not have written is refused, never guessed."""
    with pytest.raises(UndecodableEntry):
        to_record(entry(payload))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (PAYLOAD, ORDER_NO),
        (f"{ORDER_NO} broken buyer-1".encode(), ORDER_NO),
        (ORDER_NO.encode(), ORDER_NO),
        (f"{ORDER_NO} \xff".encode("latin-1"), ORDER_NO),
        (ORDER_NO[:20].encode(), None),
        (b"garbage of a kind", None),
        (b"\xff", None),
        (b"", None),
        (None, None),
    ],
)
def test_number_of_an_entry_is_told_if_it_can_be(
    payload: bytes | None, expected: str | None
) -> None:
    """Whatever else is damaged, the first word names the order, or nothing does."""
    assert number_in(payload) == expected


def test_time_of_an_entry_is_in_its_id() -> None:
    """Milliseconds by the clock of Redis, before the dash."""
    assert Entry("sku-1", b"1700000000123-7", PAYLOAD).made_at_s == 1_700_000_000.123
