"""Which sku the request ids of recent buyers were reserved for.

Holds cannot tell: those of different skus are in different slots of a Redis Cluster, so no script
reads both. This memory is of one replica, and ends with it (docs/adr/0020).
"""

from collections.abc import Sequence

from seckill.runtime.recent import Recent
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReserveItem, ReserveResult

# Buyers remembered, at least half of them for certain: 40 MiB if all ids are as long as can be.
BUYERS_MAX = 16_384
# Reservations remembered of each.
REQUESTS_MAX = 8


class RequestSkus:
    """Remembers reservations by buyer and request id."""

    def __init__(self) -> None:
        self._of_buyer: Recent[str, tuple[tuple[str, str], ...]] = Recent(BUYERS_MAX)

    def of_another_sku(self, sku: str, items: Sequence[ReserveItem]) -> set[int]:
        """Return the indexes of attempts whose request ids were reserved for another sku."""
        found = set()
        for index, item in enumerate(items):
            known = self._of_buyer.get(item.user_id)
            # Most buyers have no reservation.
            if known is not None and _reserved_for(known, item.request_id) not in (None, sku):
                found.add(index)
        return found

    def note(
        self, sku: str, items: Sequence[ReserveItem], results: Sequence[ReserveResult]
    ) -> None:
        """Remember the attempts that were reserved."""
        for item, result in zip(items, results, strict=True):
            if result.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED:
                known = self._of_buyer.get(item.user_id) or ()
                if _reserved_for(known, item.request_id) is None:
                    known = (*known, (item.request_id, sku))[-REQUESTS_MAX:]
                    self._of_buyer.put(item.user_id, known)


def _reserved_for(known: tuple[tuple[str, str], ...], request_id: str) -> str | None:
    return next((sku for earlier, sku in known if earlier == request_id), None)
