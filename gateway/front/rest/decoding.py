"""JSON to a request message, strictly: what is not understood is refused by its name.

A field that is misspelt and ignored buys something else than was asked for ({"qty": 3} bought one
unit), and json_format costs 30 µs. Requests have strings, integers and messages of these.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.front.call import REQUEST_BYTES_MAX
from seckill.errors import InvalidField

# Of a body that is passed on as it came. Some providers send whole objects in a callback; no more
# than this comes through the edge (SECKILL_EDGE_BODY_BYTES_MAX).
RAW_BYTES_MAX = 64 * 1024
_INTEGER = re.compile(r"-?\d{1,19}")
_SIZES = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
Convert = Callable[[str, Any], Any]


def _refuse(field: str, problem: str) -> NoReturn:
    raise InvalidField([(field, problem)])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        _refuse(next(name for name in names if names.count(name) > 1), "is there twice")
    return found


def _no_constant(text: str) -> NoReturn:
    _refuse("request", f"has {text}, which is no JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that `body` is; an empty body is an empty object. Raises InvalidField."""
    if not body:
        return {}
    try:
        value = _decoder.decode(body.decode())
    except UnicodeDecodeError as error:
        raise InvalidField([("request", f"is not UTF-8 at byte {error.start}")]) from error
    except json.JSONDecodeError as error:
        problem = f"is not JSON at character {error.pos}: {error.msg}"
        raise InvalidField([("request", problem)]) from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or as many brackets.
        raise InvalidField([("request", "has a value that is too large")]) from error
    if not isinstance(value, dict):
        _refuse("request", "is not a JSON object")
    return value


def _string(field: str, value: Any) -> str:
    if not isinstance(value, str):
        _refuse(field, "is not a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse(field, "has half of a surrogate pair")
    return value


def _integer(bits: int) -> Convert:
    most = 1 << bits

    def convert(field: str, value: Any) -> int:
        # As text, too, as JavaScript's numbers are not exact (the JSON form of proto3 says so).
        is_text = isinstance(value, str) and _INTEGER.fullmatch(value)
        if is_text or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            _refuse(field, "is not an integer")
        if not -most <= value < most:
            _refuse(field, f"does not fit {bits + 1} bits")
        return value

    return convert


class RequestDecoder:
    """Decodes one type of request."""

    bytes_max = REQUEST_BYTES_MAX

    def __init__(self, message_type: Descriptor) -> None:
        """Raises ValueError if the type has a field of a kind that no request has had so far."""
        self._type: type[Message] = GetMessageClass(message_type)
        # Fields have two names each: as in the contract, and in camel case.
        self._fields: dict[str, tuple[str, Convert]] = {}
        for field in message_type.fields:
            entry = (field.name, _converter(field))
            self._fields[field.name] = self._fields[field.json_name] = entry

    def decode(self, body: bytes, bound: Mapping[str, str]) -> bytes:
        """Return the serialized request.

        Args:
            body: JSON.
            bound: fields that the path names; the body must not.

        Raises:
            InvalidField: naming what is wrong.
        """
        return self._serialize(self._values(parse(body), bound, prefix=""))

    def decode_query(self, fields: Iterable[tuple[str, str]], bound: Mapping[str, str]) -> bytes:
        """Return the serialized request of a call without a body. Raises InvalidField."""
        return self._serialize(self._values(_unique(list(fields)), bound, prefix=""))

    @staticmethod
    def _serialize(message: Message) -> bytes:
        return message.SerializeToString()

    def _values(
        self, given: Mapping[str, Any], bound: Mapping[str, str], *, prefix: str
    ) -> Message:
        values: dict[str, Any] = dict(bound)
        for key, value in given.items():
            found = self._fields.get(key)
            if found is None:
                _refuse(f"{prefix}{key}", "is not a field of this request")
            name, convert = found
            if name in values:
                problem = "is named by the path" if name in bound else "is there twice"
                _refuse(f"{prefix}{name}", problem)
            # null is the same as a field that is left out (the JSON form of proto3).
            if value is not None:
                values[name] = convert(f"{prefix}{name}", value)
        return self._type(**values)

    def convert(self, field: str, value: Any) -> Message:
        """Return a message that is a field of another. Raises InvalidField."""
        if not isinstance(value, dict):
            _refuse(field, "is not a JSON object")
        return self._values(value, {}, prefix=f"{field}.")


class RawBodyDecoder:
    """Puts a body into a request as it came: a payment provider signs its bytes."""

    bytes_max = RAW_BYTES_MAX

    def __init__(self, message_type: Descriptor, field: str) -> None:
        """`field`: the google.api.HttpBody of the request that takes the body."""
        self._type: type[Message] = GetMessageClass(message_type)
        self._field = field

    def decode(self, body: bytes, bound: Mapping[str, str]) -> bytes:
        """Return the serialized request; `bound` are the fields that the path names."""
        message = self._type(**bound)
        getattr(message, self._field).data = body
        return message.SerializeToString()


def _converter(field: FieldDescriptor) -> Convert:
    if not field.is_repeated:
        if field.type == FieldDescriptor.TYPE_STRING:
            return _string
        if field.type in _SIZES:
            return _integer(_SIZES[field.type])
        if field.message_type is not None:
            return RequestDecoder(field.message_type).convert
    raise ValueError(f"{field.full_name} has a kind that cannot be read from JSON")
