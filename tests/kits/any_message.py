"""Serialized requests of any RPC, with values of any kind, as a careless caller or an attacker
would send them.

They are drawn from descriptors, so that fields and methods of tomorrow are among them.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

Known = Mapping[str, Sequence[str]]
DEPTH_MAX = 4
# More than the longest batch that any method takes (seckill.validation.BATCH_MAX).
LONG = 1_100
INTEGERS = [0, 1, 2, 3, 100, 1_000, 1_001, -1, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63)]
SECONDS = [0, 1, 900, 1_900_000_000, 253_402_300_799, 253_402_300_800, -1, 2**63 - 1, -(2**63)]
NANOS = [0, 1, 999_999_999, 10**9, -1, 2**31 - 1, -(2**31)]
DOUBLES = [0.0, 1.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324]
TEXTS = [
    *("", "a", "0", " ", "\0", "a\0b", "\n", "\x1b[2J", "\x7f", "\u2028", "\u202e", "[/b]"),
    *("<script>", "%s", "{}", "{a}", "..", "'; --", "ü", "𐍈", "9" * 20, "-1", "x" * 65),
    *("x" * 5_000, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "CNY", "XXX", "bm8=", "MQ==", "MWE="),
]
NOT_UTF8 = [b"\xff", b"\xed\xa0\x80", b"a\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"]
# By the message's full name and the field's: fields whose whole range would hide the rest.
_OF_MESSAGES: Mapping[tuple[str, str], st.SearchStrategy[int]] = {
    ("google.protobuf.Timestamp", "seconds"): st.sampled_from(SECONDS),
    ("google.protobuf.Timestamp", "nanos"): st.sampled_from(NANOS),
    ("google.protobuf.Duration", "seconds"): st.sampled_from(SECONDS),
    ("google.protobuf.Duration", "nanos"): st.sampled_from(NANOS),
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Field = FieldDescriptor
_WIRE_TYPES = {
    **dict.fromkeys((Field.TYPE_DOUBLE, Field.TYPE_FIXED64, Field.TYPE_SFIXED64), _FIXED64),
    **dict.fromkeys((Field.TYPE_FLOAT, Field.TYPE_FIXED32, Field.TYPE_SFIXED32), _FIXED32),
    **dict.fromkeys((Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_MESSAGE), _BYTES),
}


def varint(value: int) -> bytes:
    """Return the base-128 form of an integer; a negative one as 64 bits."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tagged(number: int, wire_type: int, value: bytes) -> bytes:
    length = varint(len(value)) if wire_type == _BYTES else b""
    return varint(number << 3 | wire_type) + length + value


def requests(kind: Descriptor, known: Known) -> st.SearchStrategy[bytes]:
    """Return serialized messages of this type, mostly well-formed.

    Args:
        kind: the request's type.
        known: by a field's name, values that lead further than random ones, e.g. a sale's sku.
    """
    whole = _message(kind, known, DEPTH_MAX)
    malformed = st.one_of(
        st.binary(max_size=40),
        # Cut off, followed by garbage, and fields with a wire type that they do not have.
        st.tuples(whole, st.integers(1, 20)).map(lambda drawn: drawn[0][: -drawn[1]]),
        st.tuples(whole, st.binary(min_size=1, max_size=8)).map(b"".join),
        st.sampled_from(list(kind.fields)).flatmap(
            lambda field: st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7]).map(
                lambda wire_type: varint(field.number << 3 | wire_type) + b"\x08" * 9
            )
        )
        if kind.fields
        else st.just(b"\x0a"),
    )
    return st.integers(0, 5).flatmap(lambda draw: whole if draw else malformed)


def _message(kind: Descriptor, known: Known, depth: int) -> st.SearchStrategy[bytes]:
    if not kind.fields or depth == 0:
        return st.just(b"")
    # Fields in any order and of a oneof more than one: the last one counts.
    return st.tuples(*(_field(field, known, depth) for field in kind.fields)).map(b"".join)


def _field(field: FieldDescriptor, known: Known, depth: int) -> st.SearchStrategy[bytes]:
    """Return a field's bytes; none if it is left out."""
    wire_type = _WIRE_TYPES.get(field.type, _VARINT)
    one = _value(field, known, depth).map(lambda value: _tagged(field.number, wire_type, value))
    if not field.is_repeated:
        return st.one_of(one, one, one, st.just(b""))
    few = st.lists(one, max_size=3).map(b"".join)
    many = one.map(lambda entry: entry * LONG if len(entry) < 100 else entry)
    return st.integers(0, 9).flatmap(lambda draw: few if draw else many)


def _value(field: FieldDescriptor, known: Known, depth: int) -> st.SearchStrategy[bytes]:
    if field.type == Field.TYPE_MESSAGE:
        assert field.message_type is not None
        return _message(field.message_type, known, depth - 1)
    if field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
        return _text(known.get(field.name, ()))
    if field.type in (Field.TYPE_DOUBLE, Field.TYPE_FLOAT):
        form = "<d" if field.type == Field.TYPE_DOUBLE else "<f"
        values = DOUBLES if form == "<d" else [0.0, -1.0, float("nan")]
        return st.sampled_from(values).map(lambda value: struct.pack(form, value))
    return _integer(field)


def _integer(field: FieldDescriptor) -> st.SearchStrategy[bytes]:
    assert field.containing_type is not None
    special = _OF_MESSAGES.get((field.containing_type.full_name, field.name))
    if special is not None:
        return special.map(varint)
    if field.type == Field.TYPE_ENUM:
        assert field.enum_type is not None
        values = [value.number for value in field.enum_type.values]
        return st.sampled_from([*values, *values, 99, -1, 2**31 - 1]).map(varint)
    if field.type == Field.TYPE_BOOL:
        return st.sampled_from([0, 1, 2]).map(varint)
    integers = st.sampled_from(INTEGERS) | st.integers(-(2**63), 2**63 - 1)
    width = {_FIXED64: 8, _FIXED32: 4}.get(_WIRE_TYPES.get(field.type, _VARINT))
    if width is None:
        return integers.map(varint)
    return integers.map(lambda value: (value % 2 ** (8 * width)).to_bytes(width, "little"))


def _text(known: Sequence[str]) -> st.SearchStrategy[bytes]:
    any_text = st.sampled_from(TEXTS) | st.text(max_size=8)
    encoded: st.SearchStrategy[Any] = any_text.map(lambda text: text.encode("utf-8"))
    any_bytes = encoded | st.sampled_from(NOT_UTF8)
    if not known:
        return any_bytes
    right = st.sampled_from(known).map(lambda text: text.encode())
    return st.integers(0, 3).flatmap(lambda draw: right if draw else any_bytes)
