"""Stripe's callbacks (https://docs.stripe.com/webhooks, "Verify webhook signatures manually").

The shop puts the order's number into the payment intent's metadata, as `order_no`. Payments without
it are not for an order of ours.
"""

import hmac
from collections.abc import Sequence

from order_svc.payments.providers.callback import (
    TOLERANCE_S,
    Callback,
    Notice,
    json_object,
    member,
    notice_of,
)
from seckill.errors import PaymentSignatureInvalid

SUCCEEDED = "payment_intent.succeeded"
# Stripe counts these in hundredths, ISO 4217 in whole units; the hundredths are always 0
# (https://docs.stripe.com/currencies, "Special cases").
IN_HUNDREDTHS = frozenset({"isk", "ugx"})


def read(callback: Callback, secrets: Sequence[str], *, now_s: float) -> Notice | None:
    """Return the payment of a signed `payment_intent.succeeded`, as `Scheme`."""
    _verify(callback, secrets, now_s=now_s)
    event = json_object(callback.body)
    intent = member(event, "data", "object")
    order_no = member(intent, "metadata", "order_no")
    if member(event, "type") != SUCCEEDED or order_no is None:
        return None
    amount, currency = member(intent, "amount_received"), member(intent, "currency")
    notice = notice_of(member(intent, "id"), order_no, amount, currency)
    if currency not in IN_HUNDREDTHS:
        return notice
    return notice_of(notice.payment_id, order_no, notice.amount_minor // 100, currency)


def _verify(callback: Callback, secrets: Sequence[str], *, now_s: float) -> None:
    """Check the header "t=<Unix time>,v1=<HMAC-SHA256 of t.body in hex>,…"."""
    header = callback.headers.get("stripe-signature", "")
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t" and value.isdecimal()]
    given = [value.encode() for name, _, value in parts if name == "v1"]
    if len(times) != 1 or len(times[0]) > len("9999999999"):
        raise PaymentSignatureInvalid
    signed = times[0].encode() + b"." + callback.body
    right = [hmac.digest(secret.encode(), signed, "sha256").hex().encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in given for other in right):
        raise PaymentSignatureInvalid
    if abs(now_s - int(times[0])) > TOLERANCE_S:
        raise PaymentSignatureInvalid("the callback's timestamp is more than five minutes away")
