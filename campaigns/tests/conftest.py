"""Fixtures that these tests share with the fault tests."""

from tests.kits.faults.fixtures import cluster, make_buyers, make_cluster, own_stores

__all__ = ["cluster", "make_buyers", "make_cluster", "own_stores"]
