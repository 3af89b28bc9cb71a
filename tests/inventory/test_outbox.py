"""Outbox entries as Kafka records."""

import pytest

from inventory_svc.keys import outbox_key
from inventory_svc.outbox.dead_letter import dead_letter_of
from inventory_svc.outbox.entry import Entry, decode, number_in, numbers_in, refused
from seckill.v1 import events_pb2

ORDER_NO = "01JD0Z0000AAAAAAAAAAAAAAAA"
OTHER_NO = "01JD0Z0000BBBBBBBBBBBBBBBB"
SINGLE = f"{ORDER_NO} 2 3 1700000000123 request-1 buyer-1".encode()
LINE = f"{ORDER_NO} 2 request-1 buyer-1".encode()
OTHER = f"{OTHER_NO} 1 request-2 buyer-2".encode()
HEAD = b"3 1700000000123"


def entry(payload: bytes | None, *, batch: bool = True) -> Entry:
    """An entry of the outbox."""
    return Entry(outbox_key("sku-1"), b"1-0", payload, batch=batch)


@pytest.mark.parametrize(
    "made", [entry(b"\n".join((HEAD, LINE))), entry(SINGLE, batch=False)], ids=["batch", "single"]
)
def test_record_has_all_that_the_order_needs(made: Entry) -> None:
    """Key, time and message come from the entry and its stream, in either format."""
    ((record,), unsendable) = decode(made)
    event = events_pb2.OrderReserved.FromString(record.value)
    assert not unsendable
    assert record.key == ORDER_NO.encode()
    assert record.timestamp_ms == event.reserve_time.ToMilliseconds() == 1_700_000_000_123
    assert (event.sku, event.user_id, event.request_id) == ("sku-1", "buyer-1", "request-1")
    assert (event.quantity, event.epoch) == (2, 3)


@pytest.mark.parametrize("length", [1, 127, 128, 20_000])
def test_words_of_any_length_fit(length: int) -> None:
    """Nothing is cut, and nothing of it is taken for another field."""
    line = f"{ORDER_NO} 1 {'r' * length} {'b' * length}".encode()
    (record,) = decode(entry(b"\n".join((HEAD, line))))[0]
    event = events_pb2.OrderReserved.FromString(record.value)
    assert (event.request_id, event.user_id) == ("r" * length, "b" * length)


DAMAGED = [
    b"\xff\xfe",
    LINE + b" more",
    LINE + b" ",
    LINE.rpartition(b" ")[0],
    LINE.replace(b" 2 ", b" two "),
    LINE.replace(b" 2 ", b" 0 "),
    LINE.replace(b" 2 ", b" -2 "),
    LINE.replace(b" 2 ", b" 99999999999 "),
    LINE.replace(b"01JD", b"what"),
    LINE.replace(b"buyer-1", b""),
    LINE.replace(b"buyer-1", b"buyer\x00"),
    b"",
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_reservation_does_not_hold_up_its_batch(line: bytes) -> None:
    """It alone cannot be sent; it is told by its line, and the others are as they were."""
    records, (damaged,) = decode(entry(b"\n".join((HEAD, OTHER, line, OTHER))))
    assert [record.key for record in records] == [OTHER_NO.encode()] * 2
    assert (damaged.line, damaged.text) == (2, line)
    assert damaged.number == number_in(line)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        SINGLE + b" more",
        SINGLE.rpartition(b" ")[0],
        SINGLE.replace(b" 2 3", b" two 3"),
        SINGLE.replace(b" 2 3", b" 0 3"),
        SINGLE.replace(b" 2 3", b" 99999999999 3"),
        SINGLE.replace(b"01JD", b"what"),
        b"\xff",
    ],
)
def test_a_damaged_single_is_told_as_a_whole(payload: bytes) -> None:
    """Anything that version 0.2 would not have written is refused, never guessed."""
    records, (damaged,) = decode(entry(payload, batch=False))
    assert not records
    assert (damaged.line, damaged.text) == (0, payload)


@pytest.mark.parametrize("payload", [None, b"", b"noise", HEAD])
def test_an_entry_without_a_reservation_is_told_as_a_whole(payload: bytes | None) -> None:
    """There is nothing in it to send."""
    records, (damaged,) = decode(entry(payload))
    assert not records
    assert (damaged.line, damaged.number) == (0, None)


@pytest.mark.parametrize(
    "head",
    [
        b"what",
        b"3",
        b"3 four",
        b"3 4 call-0001 5",
        b"\xff \xff",
        b"",
        b"3 99999999999999999999",
        b"3 -1",
    ],
)
def test_a_batch_without_its_first_line_is_told_by_reservation(head: bytes) -> None:
    """Each of its orders is known, or that there is one."""
    records, damaged = decode(entry(b"\n".join((head, LINE, b"noise", OTHER))))
    assert not records
    found = [(one.line, one.number) for one in damaged]
    assert found == [(1, ORDER_NO), (2, None), (3, OTHER_NO)]


def test_a_batch_that_has_lost_its_first_line_names_all_orders() -> None:
    """The line in its place is no less a reservation."""
    _, damaged = decode(entry(b"\n".join((LINE, OTHER))))
    assert [one.number for one in damaged] == [ORDER_NO, OTHER_NO]


def test_a_refused_record_is_told_by_its_line() -> None:
    """Its text and its place are those of its reservation, in either format."""
    records, _ = decode(entry(b"\n".join((HEAD, LINE, OTHER))))
    found = refused(records[1], "too large")
    assert (found.line, found.text, found.problem) == (2, OTHER, "too large")
    (single,), _ = decode(entry(SINGLE, batch=False))
    assert refused(single, "too large")[1:3] == (0, SINGLE)


def test_dead_letters_of_one_entry_have_ids_of_their_own() -> None:
    """The same one always gets the same id."""
    _, damaged = decode(entry(b"\n".join((HEAD, b"one", OTHER, b"other"))))
    ids = [dict(dead_letter_of(one, refused=[]).headers)["ce_id"] for one in damaged]
    assert ids == [b"sku-1/1-0/1", b"sku-1/1-0/3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SINGLE, ORDER_NO),
        (f"{ORDER_NO} broken buyer-1".encode(), ORDER_NO),
        (ORDER_NO.encode(), ORDER_NO),
        (f"{ORDER_NO} \xff".encode("latin-1"), ORDER_NO),
        (ORDER_NO[:20].encode(), None),
        (b"garbage of a kind", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_number_of_a_reservation_is_told_if_it_can_be(text: bytes, expected: str | None) -> None:
    """Whatever else is damaged, the first word names the order, or nothing does."""
    assert number_in(text) == expected


def test_numbers_of_an_entry_are_those_of_all_its_lines() -> None:
    """Readable otherwise or not."""
    assert numbers_in(entry(b"\n".join((HEAD, LINE, b"noise", OTHER[:30])))) == {
        ORDER_NO,
        OTHER_NO,
    }
    assert numbers_in(entry(SINGLE, batch=False)) == {ORDER_NO}
    assert numbers_in(entry(None)) == set()


def test_time_of_an_entry_is_in_its_id() -> None:
    """Milliseconds by the clock of Redis, before the dash."""
    assert Entry(outbox_key("sku-1"), b"1700000000123-7", SINGLE).made_at_s == 1_700_000_000.123
