"""Which reservations were sent again, and which may be now: each a few times, ever more rarely.

What keeps a reservation from becoming an order may keep it again, e.g. by making it a dead letter
each time. So the pause before the next time doubles, and after some times it is left to an
operator. Forgotten when the process ends: then there are a few more. Pure.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass
class _Sent:
    times: int
    # Monotonic time, in seconds.
    next_s: float


class Resends:
    """Remembers the reservations of all sales that were sent again and have no order yet."""

    def __init__(self, *, pause_s: float, times_max: int) -> None:
        """`pause_s`: after the first time, in which the order is on its way."""
        self._pause_s = pause_s
        self._times_max = times_max
        self._sent: dict[str, dict[str, _Sent]] = {}

    def is_due(self, sku: str, order_no: str, *, now_s: float) -> bool:
        """Return whether a reservation without an order may be sent (again)."""
        sent = self._sent.get(sku, {}).get(order_no)
        return sent is None or (sent.times < self._times_max and now_s >= sent.next_s)

    def note(self, sku: str, order_nos: Iterable[str], *, now_s: float) -> None:
        """Note that these were sent."""
        known = self._sent.setdefault(sku, {})
        for order_no in order_nos:
            times = known[order_no].times + 1 if order_no in known else 1
            known[order_no] = _Sent(times, now_s + self._pause_s * 2 ** (times - 1))

    def keep(self, sku: str, order_nos: Collection[str]) -> None:
        """Forget all of a sale but these, which still have no order."""
        known = self._sent.get(sku, {})
        self._sent[sku] = {number: known[number] for number in order_nos if number in known}

    def keep_sales(self, skus: Collection[str]) -> None:
        """Forget all sales but these."""
        self._sent = {sku: sent for sku, sent in self._sent.items() if sku in skus and sent}
