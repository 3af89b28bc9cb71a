"""Shows the stock of the latest sales by metrics, as Redis has it."""

from inventory_svc import metrics
from seckill.shadow import is_shadow
from seckill.v1 import sale_pb2

# A sale is shown for so long after its end.
SHOWN_AFTER_END_S = 3_600.0
GAUGES = (
    metrics.SALE_TOTAL_UNITS,
    metrics.SALE_REMAINING_UNITS,
    metrics.SALE_HELD_UNITS,
    metrics.SALE_SELLING,
    metrics.SALE_PAYMENT_WINDOW_SECONDS,
)
# Whether the sale may sell, and when it started: the highest are shown.
_Rank = tuple[bool, float]


class SaleGauges:
    """The sales that are shown: those that sell, or that ended lately, the latest start first.

    It is told of each sale that is read, and never looks for one.
    """

    def __init__(self, *, sales_max: int) -> None:
        """`sales_max`: sales to show; 0 shows none."""
        self._sales_max = sales_max
        self._shown: dict[str, _Rank] = {}

    @property
    def skus(self) -> set[str]:
        """The sales that are shown, and so have to be read often."""
        return set(self._shown)

    def note(self, sale: sale_pb2.Sale, *, now_s: float) -> None:
        """Show this sale, or no longer."""
        sku = sale.terms.sku
        start_s = sale.terms.start_time.ToNanoseconds() / 1e9
        end_s = sale.terms.end_time.ToNanoseconds() / 1e9
        hidden = not sale.loaded or is_shadow(sku)
        if hidden or not start_s <= now_s < end_s + SHOWN_AFTER_END_S:
            self._hide(sku)
            return
        selling = sale.state == sale_pb2.SALE_STATE_OPEN and now_s < end_s
        self._shown[sku] = (sale.state != sale_pb2.SALE_STATE_CLOSED and now_s < end_s, start_s)
        if len(self._shown) > self._sales_max:
            self._hide(min(self._shown, key=self._shown.__getitem__))
        if sku in self._shown:
            _show(sale, selling=selling)

    def _hide(self, sku: str) -> None:
        if self._shown.pop(sku, None) is not None:
            for gauge in GAUGES:
                gauge.remove(sku)


def _show(sale: sale_pb2.Sale, *, selling: bool) -> None:
    sku, total = sale.terms.sku, sale.terms.total_units
    metrics.SALE_TOTAL_UNITS.labels(sku).set(total)
    metrics.SALE_REMAINING_UNITS.labels(sku).set(sale.remaining_units)
    metrics.SALE_HELD_UNITS.labels(sku).set(total - sale.remaining_units)
    metrics.SALE_SELLING.labels(sku).set(selling)
    window_s = sale.terms.payment_window.ToMilliseconds() / 1000
    metrics.SALE_PAYMENT_WINDOW_SECONDS.labels(sku).set(window_s)
