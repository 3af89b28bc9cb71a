"""What callers are told for whom there is no time, encoded once."""

from functools import lru_cache

from gateway.front.sieve import EncodedRefusal
from seckill.errors import Overloaded, retry_delay_s
from seckill.front.statuses import FAILURES_MAX, failure

# Callers refused at the same moment are told one of so many delays.
VARIANTS = 8


@lru_cache(maxsize=FAILURES_MAX)
def _refusal(retry_after_s: float) -> EncodedRefusal:
    error = Overloaded()
    error.retry_after_s = retry_after_s
    return EncodedRefusal(failure(error))


def overload_refusals(wait_s: float) -> tuple[EncodedRefusal, ...]:
    """Refusals for callers who would wait `wait_s`, each with another delay."""
    return tuple(_refusal(retry_delay_s(wait_s)) for _ in range(VARIANTS))
