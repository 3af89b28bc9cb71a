"""Fixtures of a Redis Cluster, and of meshes on it."""

from tests.kits.faults.fixtures import make_buyers, make_cluster, own_stores
from tests.kits.redis_cluster import cluster_stores, redis_cluster, running_cluster

__all__ = [
    "cluster_stores",
    "make_buyers",
    "make_cluster",
    "own_stores",
    "redis_cluster",
    "running_cluster",
]
