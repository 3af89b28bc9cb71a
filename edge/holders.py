"""Holders of units of a sale, as Envoy can see them: by the id in the caller's unverified token.

The caller's JWT is three pieces of base64; the middle one is JSON with the buyer's user id as a
string. Base64 turns the same text into one of three, depending on its place in a group of three
bytes. So a search for those three finds every token of that buyer, without decoding it. A call
that matches is passed on to the gateway, which verifies the token: a forged one gains nothing, and
another token that happens to contain the text costs one call to the gateway.
"""

import base64
import re
from collections.abc import Iterable

# Characters that no JSON encoder escapes: such an id is in the token as it is.
PLAIN_ID = re.compile(r"[A-Za-z0-9._@:~-]+")
GROUP_BYTES = 3
BITS_A_BYTE = 8
BITS_A_CHARACTER = 6
# The last characters of each fragment are searched for: enough to tell ids apart, the closing quote
# among them, and few enough for the next bound.
FRAGMENT_CHARACTERS = 10
# One expression is matched in a single pass (RE2's automaton) as long as it is not too large for
# the memory that RE2 allows it; beyond that it takes ten times as long.
HOLDERS_PER_PATTERN = 300


def id_fragments(user_id: str) -> tuple[str, ...]:
    """Return three fragments in base64url, one of which every token of this buyer contains.

    Raises:
        ValueError: JSON encoders may write the id in more than one way.
    """
    if PLAIN_ID.fullmatch(user_id) is None:
        raise ValueError("JSON encoders may write the id in more than one way")
    text = f'"{user_id}"'.encode()
    return tuple(_fragment(text, offset)[-FRAGMENT_CHARACTERS:] for offset in range(GROUP_BYTES))


def _fragment(text: bytes, offset: int) -> str:
    """Return the characters that depend on `text` alone; it starts `offset` bytes into a group."""
    encoded = base64.urlsafe_b64encode(b"\0" * offset + text).decode()
    first = -(-offset * BITS_A_BYTE // BITS_A_CHARACTER)
    last = (offset + len(text)) * BITS_A_BYTE // BITS_A_CHARACTER
    return encoded[first:last]


def holders_patterns(user_ids: Iterable[str]) -> tuple[str, ...] | None:
    """Return regular expressions (RE2), one of which matches `authorization` of each buyer.

    None if a buyer cannot be recognised so: then Envoy may not refuse purchases of the sale.
    """
    ids = sorted(user_ids)
    try:
        return tuple(
            _pattern(ids[start : start + HOLDERS_PER_PATTERN])
            for start in range(0, len(ids), HOLDERS_PER_PATTERN)
        )
    except ValueError:
        return None


def _pattern(user_ids: list[str]) -> str:
    found = sorted({fragment for user_id in user_ids for fragment in id_fragments(user_id)})
    return f".*(?:{'|'.join(found)}).*"
