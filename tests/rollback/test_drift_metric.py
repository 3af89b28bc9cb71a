"""The drift of single sales as a metric."""

from prometheus_client import REGISTRY

from rollback_svc.metrics import show_drifts
from tests.kits.factories import new_id


def drift(sku: str) -> float | None:
    """Return what the metric says; None if it does not show the sale."""
    return REGISTRY.get_sample_value("seckill_sale_drift_units", {"sku": sku})


def test_the_largest_drifts_are_shown_with_their_signs() -> None:
    """No more sales than wanted; what is right by now is shown no longer."""
    calm, less, more = (new_id(kind) for kind in ("calm", "less", "more"))
    show_drifts({calm: 0, less: -7, more: 3}, sales_max=2)
    assert (drift(calm), drift(less), drift(more)) == (None, -7, 3)
    show_drifts({calm: 0}, sales_max=2)
    assert (drift(calm), drift(less), drift(more)) == (0, None, None)
