"""A mesh of one test: databases and topics of its own, on servers that it shares with others."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from devstack import Stores, create_topics
from tests.kits.factories import new_id
from tests.kits.mesh import Mesh

ORDERS_PARTITIONS = 4


async def own_topics(
    bootstrap: str, *, partitions_of_orders: int = ORDERS_PARTITIONS
) -> Mapping[str, str]:
    """Create topics that no other mesh has, and return the settings that name them."""
    tag = new_id("mesh")
    names = {
        "SECKILL_ORDERS_TOPIC": f"{tag}.orders",
        "SECKILL_DEAD_LETTER_TOPIC": f"{tag}.dlq",
        "SECKILL_ORDER_EVENTS_TOPIC": f"{tag}.order-events",
    }
    partitions = dict.fromkeys(names.values(), 1)
    partitions[names["SECKILL_ORDERS_TOPIC"]] = partitions_of_orders
    await create_topics(bootstrap, partitions)
    return {**names, "SECKILL_ORDER_CONSUMER_GROUP": tag}


@asynccontextmanager
async def own_mesh(
    stores: Stores,
    *,
    redis_url: str,
    database_dsn: str,
    directory: Path,
    settings: Mapping[str, str] | None = None,
    partitions: int = ORDERS_PARTITIONS,
    secure: bool = False,
) -> AsyncIterator[Mesh]:
    """Make a mesh that is not started yet: enter it once what it needs is there.

    Args:
        partitions: of its topic of reservation events.
        secure: services demand certificates.
    """
    own = replace(stores, redis_url=redis_url, postgres_dsn=database_dsn)
    topics = await own_topics(stores.kafka_bootstrap, partitions_of_orders=partitions)
    mesh = Mesh(own, directory=directory, settings={**topics, **(settings or {})}, secure=secure)
    try:
        yield mesh
    finally:
        mesh.stop()
