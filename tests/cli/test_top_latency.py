"""What the mesh itself took: quantiles of the gateway's own histogram."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from seckill_cli.top.exposition import GATEWAY, parse, summarize
from seckill_cli.top.latency import quantiles_ms


def test_the_histogram_of_purchases_is_read() -> None:
    """Of all methods only Purchase, from the text that prometheus_client writes."""
    registry = CollectorRegistry()
    histogram = Histogram(
        "grpc_server_handling_seconds",
        "Seconds.",
        ("grpc_service", "grpc_method"),
        buckets=(0.01, 0.1),
        registry=registry,
    )
    for method, seconds in (("Purchase", 0.005), ("Purchase", 0.05), ("GetOrder", 5.0)):
        histogram.labels(GATEWAY, method).observe(seconds)
    found = summarize(parse(generate_latest(registry).decode())).latencies
    assert found == {0.01: 1.0, 0.1: 2.0, float("inf"): 2.0}


def test_quantiles_are_those_of_the_time_in_between() -> None:
    """What was counted before does not count; within a bucket calls are spread evenly."""
    before = {0.01: 100.0, 0.1: 100.0, float("inf"): 100.0}
    after = {0.01: 150.0, 0.1: 198.0, float("inf"): 200.0}
    found = quantiles_ms(before, after)
    assert found["p50"] == pytest.approx(10.0)
    assert found["p95"] == pytest.approx(10 + 90 * 45 / 48, abs=0.01)
    assert found["p99"] == pytest.approx(100.0)


def test_a_restarted_gateway_counts_from_its_start() -> None:
    """Fewer calls than before are all calls of the new process; none are none."""
    after = {0.01: 10.0, float("inf"): 10.0}
    assert quantiles_ms({0.01: 100.0, float("inf"): 100.0}, after)["p50"] == pytest.approx(5.0)
    assert quantiles_ms({}, {}) == {}
    assert quantiles_ms(after, after) == {}
