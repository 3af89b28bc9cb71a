"""Fixtures that fault tests share with the campaigns' tests."""

from tests.kits.faults.fixtures import (
    cluster,
    make_buyers,
    make_cluster,
    own_kafka,
    own_postgres,
    own_stores,
    own_valkey,
    redis_proxy,
)

__all__ = [
    "cluster",
    "make_buyers",
    "make_cluster",
    "own_kafka",
    "own_postgres",
    "own_stores",
    "own_valkey",
    "redis_proxy",
]
