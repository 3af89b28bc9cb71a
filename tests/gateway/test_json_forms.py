"""JSON by our own tables is what protobuf's own library makes of the same messages."""

import random
import time
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway.front.rest.decoding import RequestDecoder
from gateway.front.rest.encoding import encoder_of, to_json
from gateway.front.rest.routes import SERVICE
from seckill.errors import InvalidField

METHODS = {method.name: method for method in SERVICE.methods}
TEXTS = ("", "phone", 'quoted " and \\ and \n', "手机", "\x00\x1f\x7f", "</script>", "a" * 300)
SEEDS = 30


def filled(kind: Any, rng: random.Random) -> Any:
    """Return a message whose fields are set at random, or not."""
    message: Any = GetMessageClass(kind)()
    if kind.full_name == "google.protobuf.Timestamp":
        message.seconds = rng.choice((0, 1, int(time.time()), 253_402_300_799))
        message.nanos = rng.choice((0, 5_000_000, 120_000, 999_999_999))
        return message
    if kind.full_name == "google.protobuf.Duration":
        message.seconds, message.nanos = rng.choice(((600, 0), (0, 500_000_000), (1, 1)))
        return message
    for field in kind.fields:
        if rng.random() < 0.25:
            continue
        if field.is_repeated:
            values = [filled(field.message_type, rng) for _ in range(rng.randrange(3))]
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(filled(field.message_type, rng))
        else:
            setattr(message, field.name, scalar(field, rng))
    return message


def scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    """Return a value of a field."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    if field.enum_type is not None:
        # The last one is of a version to come.
        return rng.choice([*field.enum_type.values_by_number, 99])
    bits = 31 if field.type == FieldDescriptor.TYPE_INT32 else 63
    return rng.choice((0, 1, -1, 2**bits - 1, -(2**bits)))


@pytest.mark.parametrize("name", METHODS)
def test_responses_are_written_as_protobuf_writes_them(name: str) -> None:
    """The same message, in the same characters, whatever the order of the fields."""
    kind = METHODS[name].output_type
    encode = encoder_of(kind)
    for seed in range(SEEDS):
        message = filled(kind, random.Random(seed))
        expected = json_format.Parse(to_json(message), GetMessageClass(kind)())
        written = encode(message.SerializeToString())
        assert json_format.Parse(written, GetMessageClass(kind)()) == expected
        assert sorted(written) == sorted(to_json(message))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"ReceivePaymentCallback"}))
def test_requests_are_read_as_protobuf_reads_them(name: str) -> None:
    """What protobuf's own library writes, in either form of the names."""
    kind = METHODS[name].input_type
    decoder = RequestDecoder(kind)
    for seed in range(SEEDS):
        message = filled(kind, random.Random(seed))
        for as_in_contract in (True, False):
            text = json_format.MessageToJson(message, preserving_proto_field_name=as_in_contract)
            assert GetMessageClass(kind).FromString(decoder.decode(text.encode(), {})) == message


def test_any_bytes_are_a_request_or_an_invalid_field() -> None:
    """Requests with bytes changed, doubled and lost: never another exception."""
    rng = random.Random(3)
    decoder = RequestDecoder(METHODS["PayOrder"].input_type)
    whole = b'{"order_no":"a","payment_id":"p","amount":{"currency":"CNY","minor_units":"990"}}'
    refused = 0
    for _ in range(5_000):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.randrange(3)] = rng.choice(
                (b"", b'"', b"\xff", b"{", b"\\", b"null", b"1e999", b"\\ud800", rng.randbytes(2))
            )
        try:
            decoder.decode(bytes(changed), {})
        except InvalidField:
            refused += 1
    assert refused > 4_000
