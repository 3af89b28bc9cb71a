"""Which refusals the gateway may give by itself.

The sales' flags say what a *new* buyer would be told: sold out, paused, ended, not started. But a
buyer who holds a unit and repeats his request must get his order's number, also after the sale is
sold out, and a flag does not know who holds one. He may have bought through another replica, or
through this one before it was restarted. Only the script knows.

So a flag alone refuses nobody, with one exception: before the sale has sold anything there is no
one to be wronged (SaleView.never_sold). Everybody else is asked for once, in a coalesced batch,
and the script's refusal is remembered with the snapshot of the sale that it agreed with. For the
next second, and only while that snapshot stands, the same buyer is told the same from memory: he
cannot have got a unit without a restock, and a restock makes a new snapshot. What remains is the
few milliseconds in which a restock's notice is under way; who buys through another replica just
then, and asks here within that second, is told "sold out" once and the truth on his next attempt.

`local` gives that up for speed: flags refuse everybody who is not known to have bought *here*. It
is right where a buyer always reaches the same replica, and wrong for winners after a restart.
"""

from typing import Literal

from gateway.recent import Recent
from gateway.sales import SaleView
from seckill.v1 import inventory_pb2

# How long a refusal is repeated from memory; also how long a lost restock notice is believed.
REMEMBERED_S = 1.0

Policy = Literal["ask-once", "local"]
Buyer = tuple[str, str]
_HOLDING = frozenset(
    (inventory_pb2.PURCHASE_OUTCOME_RESERVED, inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED)
)


class Refusals:
    """Remembers whom the script has refused, and who holds a unit."""

    def __init__(self, *, policy: Policy, remembered_max: int) -> None:
        """`remembered_max`: buyers kept."""
        self._local = policy == "local"
        self._refused: Recent[Buyer, tuple[SaleView, float]] = Recent(remembered_max)
        self._holders: Recent[Buyer, bool] = Recent(remembered_max)

    def known(
        self, buyer: Buyer, sale: SaleView, *, expected: int, monotonic_s: float
    ) -> int | None:
        """The answer, or None where inventory must be asked.

        Args:
            buyer: (sku, user id).
            sale: as the flags are now.
            expected: what the flags say a new buyer would be told.
            monotonic_s: now.
        """
        if self._local and self._holders.get(buyer) is None:
            return expected
        remembered = self._refused.get(buyer)
        if remembered is None:
            return None
        agreed_with, until_s = remembered
        return expected if agreed_with is sale and until_s > monotonic_s else None

    def note(
        self,
        buyer: Buyer,
        sale: SaleView | None,
        *,
        outcome: int,
        expected: int | None,
        monotonic_s: float,
    ) -> None:
        """Learn from an answer of inventory.

        Args:
            sale: as the flags were when inventory was asked.
            outcome: its answer.
            expected: what those flags said.
        """
        if outcome in _HOLDING:
            if self._local:
                self._holders.put(buyer, True)
        elif sale is not None and outcome == expected:
            self._refused.put(buyer, (sale, monotonic_s + REMEMBERED_S))
