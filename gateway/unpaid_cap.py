"""A cap on the orders that one buyer, or one payment fingerprint, may leave unpaid at a time.

It is kept where purchase tokens are issued (ADR 29 says what that promises).
"""

from collections.abc import Callable

from gateway.buyer_histories import BuyerHistories
from gateway.keyed_hashes import KeyedHashes
from gateway.metrics import UNPAID_CAP_REFUSALS_TOTAL, UNPAID_CAP_UNKNOWN_TOTAL
from seckill.errors import SeckillError, TooManyUnpaid


class UnpaidCap:
    """Refuses purchase tokens to buyers with enough orders that await payment."""

    def __init__(
        self, histories: BuyerHistories, hashes: KeyedHashes, *, orders_max: Callable[[], int]
    ) -> None:
        """
        Args:
            histories: what buyers did with their orders.
            hashes: by which orders of a fingerprint are found; without a key none are.
            orders_max: orders that may await payment; 0 while there is no cap.
        """
        self._histories = histories
        self._hashes = hashes
        self._orders_max = orders_max

    @property
    def on(self) -> bool:
        """Whether there is a cap; else `check` need not be called."""
        return self._orders_max() > 0

    async def check(self, user_id: str, fingerprint: bytes | None) -> None:
        """Return if the buyer may have a purchase token.

        A buyer of whom nothing can be known passes: sales go on without the order service.

        Args:
            user_id: the buyer.
            fingerprint: digest of their payment fingerprint, as Standing has it.

        Raises:
            TooManyUnpaid: the buyer or the fingerprint has as many orders as may await payment.
        """
        most = self._orders_max()
        if most <= 0:
            return
        try:
            history = await self._histories.get(user_id, self._hashes.fingerprint(fingerprint))
        except SeckillError:
            UNPAID_CAP_UNKNOWN_TOTAL.inc()
            return
        for whose, pending in (
            ("user", history.pending),
            ("fingerprint", history.fingerprint_pending),
        ):
            if pending >= most:
                UNPAID_CAP_REFUSALS_TOTAL.labels(whose).inc()
                raise TooManyUnpaid(whose, orders_max=most)
