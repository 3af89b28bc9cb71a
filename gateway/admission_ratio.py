"""How many attempts at a sale may be under way at once: a multiple of what remains of it.

More of them than that cannot win, and would only lengthen the queue before inventory. One batch may
always be under way, so that the last units are sold whatever is known of them, and so that what is
known does not grow old: each batch's reply says what remained after it (ADR 29).
"""

from collections.abc import Callable

from gateway.metrics import GATEWAY_ADMISSION_FULL_TOTAL
from seckill.errors import AdmissionFull
from seckill.runtime.recent import Recent

# Buyers whose repeats are let through, about 100 bytes each. Others are told to try again until the
# sale is sold out; from then on inventory names all holders (ADR 8).
TOLD_MAX = 16_384


class AdmissionRatio:
    """Decides whether one more attempt may go to inventory."""

    def __init__(
        self, *, remaining: Callable[[str], int | None], multiple: Callable[[str], float]
    ) -> None:
        """
        Args:
            remaining: units of a sku that are left, as last heard; None if nothing was.
            multiple: attempts for each of these units; 0 lets all through.
        """
        self._remaining = remaining
        self._multiple = multiple
        # Hashes of (sku, user): short, whatever a caller is called. Two buyers with the same hash
        # are both let through.
        self._told: Recent[int, bool] = Recent(TOLD_MAX)

    def note_told(self, sku: str, user_id: str) -> None:
        """A buyer was told an order's number; their repeats are let through."""
        self._told.put(hash((sku, user_id)), True)

    def check(self, sku: str, user_id: str, *, under_way: int) -> None:
        """Let an attempt through beside those under way, which are a batch or more.

        Raises:
            AdmissionFull: there are enough for what remains, and this buyer was told no number.
        """
        multiple = self._multiple(sku)
        if not multiple:
            return
        remaining = self._remaining(sku)
        if remaining is None or under_way < multiple * remaining:
            return
        if self._told.get(hash((sku, user_id))) is None:
            GATEWAY_ADMISSION_FULL_TOTAL.inc()
            raise AdmissionFull
