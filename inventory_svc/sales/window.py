"""Whether a sale sells, by its state, its stock and its window. Pure."""

from seckill.v1 import sale_pb2

# Clocks of services and of Redis may differ by this much.
CLOCK_SKEW_S = 1.0


def next_edge_s(sale: sale_pb2.Sale, *, now_s: float) -> float | None:
    """Return the Unix time after which `sells` may answer otherwise, though nothing changes."""
    terms = sale.terms
    edges_s = (
        terms.start_time.ToNanoseconds() / 1e9 - CLOCK_SKEW_S,
        terms.end_time.ToNanoseconds() / 1e9 + CLOCK_SKEW_S,
    )
    return min((edge_s for edge_s in edges_s if edge_s >= now_s), default=None)


def sells(sale: sale_pb2.Sale, *, now_s: float) -> bool:
    """Return whether a new buyer could get a unit; near the edges of the window, they could."""
    terms = sale.terms
    started = now_s > terms.start_time.ToNanoseconds() / 1e9 - CLOCK_SKEW_S
    over = now_s > terms.end_time.ToNanoseconds() / 1e9 + CLOCK_SKEW_S
    open_now = sale.state == sale_pb2.SALE_STATE_OPEN and started and not over
    return not sale.loaded or (open_now and not sale.sold_out)
