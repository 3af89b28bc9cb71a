"""How many watches may be open: of one buyer, of one order of theirs, and from one address."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.rpc import error_details_pb2

from seckill.errors import SeckillError, retry_delay_s
from seckill.v1 import errors_pb2

# About when one of the open watches may have ended.
WAIT_S = 2.0


class TooManyWatches(SeckillError):
    """Too many watches are open."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_RATE_LIMITED

    def __init__(self, whose: str) -> None:
        """`whose`: what has too many, e.g. "buyer"."""
        super().__init__(
            f"too many watches of this {whose} are open", retry_after_s=retry_delay_s(WAIT_S)
        )
        self.whose = whose

    def details(self) -> list[error_details_pb2.QuotaFailure | error_details_pb2.BadRequest]:
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=f"watches_{self.whose}", description=str(self))
        return [quota]


class Watches:
    """The open watches, counted by what they have in common."""

    def __init__(self, *, buyer_max: int, order_max: int, address_max: int) -> None:
        """The most that may be open at once, of each."""
        self._most = {"buyer": buyer_max, "order": order_max, "address": address_max}
        # No more entries than three for each open watch.
        self._open: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def opened(self, *, user_id: str, order_no: str, address: str) -> Iterator[None]:
        """Count a watch while the context lasts.

        Args:
            address: the caller's; "" is not counted.

        Raises:
            TooManyWatches: one of the three has as many as it may.
        """
        # With the buyer: a stranger's watches of an order take nothing from its owner's.
        keys = [("buyer", user_id), ("order", f"{user_id} {order_no}")]
        if address:
            keys.append(("address", address))
        for key in keys:
            if self._open[key] >= self._most[key[0]]:
                raise TooManyWatches(key[0])
        self._open.update(keys)
        try:
            yield
        finally:
            for key in keys:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]
