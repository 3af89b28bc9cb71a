"""The limits of the gate that operators may change while the mesh runs, with their bounds.

The gateway's settings have the same types, so what a setting takes and what operators may set is
one rule.
"""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

# One call in a quarter of an hour; who wants fewer wants a list.
RATE_MIN = 0.001
RATE_MAX = 10_000_000
BURST_MAX = 10_000_000
UNPAID_ORDERS_MAX = 1_000_000


def _check_rate(value: float) -> float:
    if 0 < value < RATE_MIN:
        raise ValueError(f"must be 0, which switches the limit off, or at least {RATE_MIN}")
    return value


# Calls per second; 0 switches the bucket off.
Rate = Annotated[float, Field(ge=0, le=RATE_MAX, allow_inf_nan=False), AfterValidator(_check_rate)]
# Tokens in a full bucket.
Burst = Annotated[int, Field(ge=1, le=BURST_MAX)]
_Orders = Annotated[int, Field(ge=0, le=UNPAID_ORDERS_MAX)]


class Limit(NamedTuple):
    """A limit's bounds.

    Attributes:
        least, most: what may be set.
        whole: only whole numbers.
        adapter: checks a value as the setting would.
    """

    least: float
    most: float
    whole: bool
    adapter: TypeAdapter[float] | TypeAdapter[int]

    def problem(self, value: float) -> str:
        """Return what is wrong with a value; "" for nothing."""
        try:
            self.adapter.validate_python(value)
        except ValidationError:
            wanted = "a whole number from 0" if self.whole else f"0, or a number from {RATE_MIN}"
            if self.least:
                wanted = f"a whole number from {self.least:.0f}"
            return f"must be {wanted} to {self.most:.0f}, not {value}"
        return ""


_RATE = Limit(0, RATE_MAX, whole=False, adapter=TypeAdapter(Rate))
_BURST = Limit(1, BURST_MAX, whole=True, adapter=TypeAdapter(Burst))
_ORDERS = Limit(0, UNPAID_ORDERS_MAX, whole=True, adapter=TypeAdapter(_Orders))

# The token buckets of the gateway: of all calls, of an address (purchases and looks, calls about
# orders, providers' callbacks), of a buyer, and of purchase tokens that either may have.
BUCKETS = ("all", "ip", "ip_orders", "ip_callbacks", "user", "ip_issue", "issue")
UNPAID_ORDERS = "unpaid_orders_max"
# By name: that of the gateway's setting without its prefix.
LIMITS: dict[str, Limit] = {
    **{f"rate_{bucket}": _RATE for bucket in BUCKETS},
    **{f"burst_{bucket}": _BURST for bucket in BUCKETS},
    # Unpaid orders of one buyer over all sales; 0 for no cap. No setting: without a rule, no cap.
    UNPAID_ORDERS: _ORDERS,
}
