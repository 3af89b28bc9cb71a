"""Who holds units of a sale, as Envoy can see it: by the name in the caller's token, unverified.

The caller's JWT is three pieces of base64; the middle one is JSON with the buyer's user id as a
string. Base64 turns the same text into one of three, depending on where in a group of three bytes
it begins. So a search for those three finds whoever may be that buyer, without reading the token.
Whoever is found is passed on to the gateway, which verifies: a forged token gains nothing, and
another token in which the text happens to stand costs one call to the gateway.
"""

import base64
import re
from collections.abc import Iterable

# What no writer of JSON escapes, so that the id stands in the token as it is.
PLAIN_ID = re.compile(r"[A-Za-z0-9._@:~-]+")
GROUP_BYTES = 3
BITS_A_BYTE = 8
BITS_A_CHARACTER = 6
# Of each trace the last characters are looked for: enough to tell ids apart, the closing quote with
# them, and few enough for the next bound.
TRACE_CHARACTERS = 10
# One expression is matched in a single pass (RE2's automaton) as long as it is not too large for
# the memory that RE2 allows it; beyond that it takes ten times as long.
HOLDERS_A_PATTERN = 300


def traces(user_id: str) -> tuple[str, ...]:
    """What every token of this buyer has one of, in base64url.

    Raises:
        ValueError: the id may be written in more than one way.
    """
    if PLAIN_ID.fullmatch(user_id) is None:
        raise ValueError("the id may be written in more than one way")
    text = f'"{user_id}"'.encode()
    return tuple(_trace(text, offset)[-TRACE_CHARACTERS:] for offset in range(GROUP_BYTES))


def _trace(text: bytes, offset: int) -> str:
    """The characters that depend on `text` alone; it begins `offset` bytes into a group."""
    encoded = base64.urlsafe_b64encode(b"\0" * offset + text).decode()
    first = -(-offset * BITS_A_BYTE // BITS_A_CHARACTER)
    last = (offset + len(text)) * BITS_A_BYTE // BITS_A_CHARACTER
    return encoded[first:last]


def holders_patterns(user_ids: Iterable[str]) -> tuple[str, ...] | None:
    """Regular expressions (RE2): `authorization` of each of these buyers matches one of them.

    Returns:
        None where one of the buyers cannot be told so: then nobody may be refused by it.
    """
    ids = sorted(user_ids)
    try:
        return tuple(
            _pattern(ids[begin : begin + HOLDERS_A_PATTERN])
            for begin in range(0, len(ids), HOLDERS_A_PATTERN)
        )
    except ValueError:
        return None


def _pattern(user_ids: list[str]) -> str:
    found = sorted({trace for user_id in user_ids for trace in traces(user_id)})
    return f".*(?:{'|'.join(found)}).*"
