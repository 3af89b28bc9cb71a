"""Metrics of the agent; Envoy has its own."""

from prometheus_client import Counter, Gauge

REFUSED_SALES = Gauge("seckill_edge_refused_sales_count", "Sales that Envoy refuses by itself.")
HALTED = Gauge("seckill_edge_halted", "1 while the kill switch is on.")
LEASE_STREAMS = Gauge("seckill_edge_lease_streams_count", "Envoys that hold or await a lease.")
LEASES_REFUSED = Counter("seckill_edge_leases_refused_total", "Leases that Envoy would not have.")
ROUTES_WRITTEN = Counter("seckill_edge_routes_written_total", "Times that the routes were written.")
