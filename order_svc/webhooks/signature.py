"""Signatures as the Standard Webhooks specification has them (https://www.standardwebhooks.com)."""

import base64
import hmac
from collections.abc import Sequence


def sign(keys: Sequence[bytes], *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`: one signature for each key.

    Args:
        keys: a receiver verifies with any one of them.
        message_id: the header `webhook-id`.
        timestamp_s: the header `webhook-timestamp`, Unix time.
        body: exactly the bytes that are sent.
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys
    )
