"""Callbacks signed by Standard Webhooks (https://www.standardwebhooks.com).

The specification leaves the body open; ours is
{"type": "payment.succeeded",
 "data": {"payment_id", "order_no", "amount": {"currency", "minor_units"}}}.
"""

from collections.abc import Sequence

from standardwebhooks import Webhook, WebhookVerificationError

from order_svc.payments.providers.callback import Callback, Notice, json_object, member, notice_of
from seckill.errors import PaymentSignatureInvalid

SUCCEEDED = "payment.succeeded"


def read(callback: Callback, secrets: Sequence[str], *, now_s: float) -> Notice | None:
    """Return the payment of a signed `payment.succeeded`, as `Scheme`."""
    del now_s  # The library reads the clock, and allows five minutes.
    if not any(_is_signed(callback, secret) for secret in secrets):
        raise PaymentSignatureInvalid
    event = json_object(callback.body)
    if member(event, "type") != SUCCEEDED:
        return None
    data = member(event, "data")
    return notice_of(
        member(data, "payment_id"),
        member(data, "order_no"),
        member(data, "amount", "minor_units"),
        member(data, "amount", "currency"),
    )


def _is_signed(callback: Callback, secret: str) -> bool:
    try:
        Webhook(secret).verify(callback.body, dict(callback.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        # ValueError: headers and bodies that the library does not expect.
        return False
    return True
