"""What providers' adapters take and give."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from seckill.errors import InvalidField

# A signed request that is older, or from further in the future, may have been recorded by another.
TOLERANCE_S = 300


@dataclass(frozen=True)
class Callback:
    """A request of a provider, as it came.

    Attributes:
        headers: names in lower case.
        body: the bytes that were signed.
    """

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A provider's notice that it took a payment.

    Attributes:
        payment_id: the provider's name of it.
        order_no: the order it is for, as the shop told the provider.
        amount_minor: in the currency's minor units (ISO 4217).
        currency: ISO 4217 code.
    """

    payment_id: str
    order_no: str
    amount_minor: int
    currency: str


class Scheme(Protocol):
    """Verifies a callback, then reads it."""

    def __call__(
        self, callback: Callback, secrets: Sequence[str], *, now_s: float
    ) -> Notice | None:
        """Return what the callback says; None if it is no notice of a payment for an order.

        Args:
            callback: the request.
            secrets: any of them may have signed it.
            now_s: Unix time.

        Raises:
            PaymentSignatureInvalid: no secret signed it, or too long ago.
            InvalidField: it is signed, and cannot be read.
        """


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raises InvalidField."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidField([("body", "is not JSON")]) from error
    if not isinstance(value, dict):
        raise InvalidField([("body", "is not a JSON object")])
    return value


def member(value: object, *path: str) -> Any:
    """Return the member at a path of JSON objects, None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def notice_of(payment_id: object, order_no: object, amount: object, currency: object) -> Notice:
    """Return the notice of these members; raises InvalidField naming those of a wrong type."""
    texts = {"payment_id": payment_id, "order_no": order_no, "currency": currency}
    wrong = [(name, "must be a text") for name, text in texts.items() if not isinstance(text, str)]
    if isinstance(amount, bool) or not isinstance(amount, int):
        wrong.append(("amount", "must be an integer"))
    if wrong:
        raise InvalidField(wrong)
    return Notice(
        payment_id=str(payment_id),
        order_no=str(order_no),
        amount_minor=int(str(amount)),
        currency=str(currency).upper(),
    )
