"""Adapters of payment providers: each verifies a callback, then reads it.

Another scheme is a module with a function `read` as in those here, and a line below.
"""

from collections.abc import Mapping

from order_svc.payments.providers import standard_webhooks, stripe
from order_svc.payments.providers.callback import Scheme

SCHEMES: Mapping[str, Scheme] = {
    "standard-webhooks": standard_webhooks.read,
    "stripe": stripe.read,
}
