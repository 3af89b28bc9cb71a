"""The endpoints of webhooks, parsed from a setting."""

import base64
import binascii
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from seckill.v1 import events_pb2

# As in order_events.kind: "created", "payment_too_late".
KINDS = tuple(
    name.removeprefix("ORDER_EVENT_TYPE_").lower()
    for name, value in events_pb2.OrderEventType.items()
    if value != events_pb2.ORDER_EVENT_TYPE_UNSPECIFIED
)
NAME = r"[a-z0-9][a-z0-9-]{0,39}"
# Each endpoint has connections and requests of its own.
ENDPOINTS_MAX = 16
# While a secret is changed there are two; the header has a signature for each.
SECRETS_MAX = 4
SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret starts
# What the Standard Webhooks specification asks for.
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64


class Endpoint(BaseModel):
    """Who is told of order events.

    Attributes:
        name: what metrics, tables and the command line call it.
        url: where to POST.
        secret: "whsec_" and base64 of the key; several, separated by spaces, all sign.
        events: kinds of events that it is told of.
    """

    # Messages of the validator would quote secrets.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    url: Annotated[str, Field(max_length=2_048)]
    secret: SecretStr
    events: Annotated[tuple[str, ...], Field(min_length=1)] = KINDS

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not value.isascii():
            raise ValueError("must be an http(s) URL of ASCII characters")
        if parts.username is not None or parts.fragment:
            raise ValueError("must have neither user nor fragment")
        # Raises ValueError unless it is a number.
        _ = parts.port
        return value

    @field_validator("secret")
    @classmethod
    def _is_made_of_keys(cls, value: SecretStr) -> SecretStr:
        _keys(value)
        return value

    @field_validator("events")
    @classmethod
    def _are_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(KINDS):
            raise ValueError(f"must be some of {', '.join(KINDS)}")
        return value

    def keys(self) -> list[bytes]:
        """Return the keys that sign, in the order of the setting."""
        return _keys(self.secret)


def _keys(secret: SecretStr) -> list[bytes]:
    texts = secret.get_secret_value().split()
    if not 1 <= len(texts) <= SECRETS_MAX:
        raise ValueError(f"must be 1 to {SECRETS_MAX} secrets, separated by spaces")
    return [_key(text) for text in texts]


def _key(text: str) -> bytes:
    try:
        if not text.startswith(SECRET_PREFIX):
            raise ValueError
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # Without the cause, which may quote it.
        raise ValueError(f"must be {SECRET_PREFIX} and base64") from None
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"must have {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, not {len(key)}")
    return key


_LIST = TypeAdapter(list[Endpoint])


def parse_endpoints(text: str, *, https_only: bool) -> tuple[Endpoint, ...]:
    """Read a JSON list of endpoints; an empty text has none.

    Raises:
        ValueError: says what is wrong and where, never quoting a value: secrets are among them.
    """
    if not text.strip():
        return ()
    try:
        endpoints = _LIST.validate_json(text)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(error))) from None
    names = [endpoint.name for endpoint in endpoints]
    if len(set(names)) < len(names):
        raise ValueError("two endpoints have the same name")
    if len(endpoints) > ENDPOINTS_MAX:
        raise ValueError(f"must be at most {ENDPOINTS_MAX} endpoints")
    for endpoint in endpoints:
        if https_only and urlsplit(endpoint.url).scheme != "https":
            raise ValueError(f"{endpoint.name}: url must be https in the production profile")
    return tuple(endpoints)


def _explain(error: ValidationError) -> list[str]:
    return [
        ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
        for problem in error.errors(include_input=False, include_context=False)
    ]
