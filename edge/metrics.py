"""Metrics of the agent; Envoy has its own."""

from prometheus_client import Counter, Gauge

EDGE_REFUSED_SALES_COUNT = Gauge(
    "seckill_edge_refused_sales_count", "Sales that Envoy refuses by itself."
)
EDGE_HALTED = Gauge("seckill_edge_halted", "1 while the kill switch is on.")
EDGE_LEASE_STREAMS_COUNT = Gauge(
    "seckill_edge_lease_streams_count", "Envoys that hold or await a lease."
)
EDGE_LEASES_REFUSED_TOTAL = Counter(
    "seckill_edge_leases_refused_total", "Leases that Envoy has rejected."
)
EDGE_ROUTES_WRITTEN_TOTAL = Counter(
    "seckill_edge_routes_written_total", "Times that the routes were written."
)
EDGE_SHED_SHARE = Gauge("seckill_edge_shed_share", "Share of the purchases that Envoy refuses.")
EDGE_GATEWAYS_COUNT = Gauge(
    "seckill_edge_gateways_count", "Gateways that have reported their load lately."
)
