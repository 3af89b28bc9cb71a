"""Checks that Redis and Kafka are configured to keep what they have acknowledged."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from redis.exceptions import ResponseError

from inventory_svc import metrics
from inventory_svc.outbox.topic_owner import TopicOwner
from inventory_svc.settings import InventorySettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_faults import kafka_faults
from seckill.runtime.redis_client import redis_faults, servers_of
from seckill.runtime.safety import ConfigurationCheck, Look

if TYPE_CHECKING:
    import redis.asyncio

IN_SYNC_REPLICAS_MIN = 2
# The largest reservation event in a record batch of its own has about 500 bytes.
ENTRY_BYTES_MAX = 1_024
KAFKA_TIMEOUT_MS = 5_000


async def unsafe_redis_settings(
    client: "redis.asyncio.Redis", *, production: bool
) -> Sequence[str] | None:
    """Return a sentence for each setting with which Redis may lose reservations.

    Args:
        production: an append-only file is demanded too.

    Returns:
        None if Redis does not let us look, as managed ones do.

    Raises:
        DependencyUnavailable: it does not answer.
    """
    try:
        with redis_faults():
            looks = [
                await server.config_get("maxmemory-policy", "appendonly")
                for server in await servers_of(client)
            ]
    except DependencyUnavailable as error:
        if isinstance(error.__cause__, ResponseError):
            return None
        raise
    # Servers of a cluster have the same problem once.
    return list(dict.fromkeys(problem for found in looks for problem in _unsafe(found, production)))


def _unsafe(found: Mapping[Any, Any], production: bool) -> Iterator[str]:
    # With any other policy keys of a sale would be evicted while it sells.
    policy = found.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, and must be noeviction"
    if production and found.get("appendonly", "yes") != "yes":
        yield "appendonly is no: a restart would lose every reservation"


async def unsafe_kafka_settings(cluster: KafkaCluster, *, topic: str) -> Sequence[str] | None:
    """Return a sentence for each setting with which Kafka may lose reservations.

    Args:
        cluster: where the topic is.
        topic: the orders topic.

    Returns:
        None if Kafka does not let us look.

    Raises:
        DependencyUnavailable: it does not answer.
    """
    try:
        with kafka_faults():
            values = await _topic_settings(cluster, topic)
    except (ClusterAuthorizationFailedError, TopicAuthorizationFailedError):
        return None
    except (KafkaError, OSError, TimeoutError) as error:
        raise DependencyUnavailable("kafka does not answer") from error
    problems = []
    in_sync = int(values.get("min.insync.replicas", "1"))
    if in_sync < IN_SYNC_REPLICAS_MIN:
        problems.append(
            f"min.insync.replicas of {topic} is {in_sync}, and must be {IN_SYNC_REPLICAS_MIN}"
        )
    limit_bytes = int(values.get("max.message.bytes", ENTRY_BYTES_MAX))
    if limit_bytes < ENTRY_BYTES_MAX:
        problems.append(
            f"max.message.bytes of {topic} is {limit_bytes}, and must be {ENTRY_BYTES_MAX}"
        )
    if values.get("unclean.leader.election.enable") == "true":
        problems.append(f"unclean.leader.election.enable of {topic} is true")
    return problems


async def _topic_settings(cluster: KafkaCluster, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(**cluster.client_options, request_timeout_ms=KAFKA_TIMEOUT_MS)
    try:
        await admin.start()
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = await admin.describe_configs([resource])
    finally:
        await admin.close()
    found: Any = response.resources[0]  # (error code, message, type, name, entries)
    if found[0]:
        raise for_code(found[0])(found[1])
    return {entry[0]: entry[1] for entry in found[4]}


def configuration_checks(
    settings: InventorySettings, client: "redis.asyncio.Redis", topics: TopicOwner
) -> dict[str, ConfigurationCheck]:
    """Return the checks by store; whose the topics are is looked at in any case."""
    production = settings.profile == "production"
    looks: dict[str, Look] = {"kafka_topics": topics.problems}
    if settings.inventory_check_configuration:
        looks["redis"] = lambda: unsafe_redis_settings(client, production=production)
    if settings.inventory_check_configuration and production:
        looks["kafka"] = lambda: unsafe_kafka_settings(
            settings.kafka_cluster(), topic=settings.orders_topic
        )
    return {
        store: ConfigurationCheck(
            store,
            look,
            interval_s=settings.inventory_configuration_interval_s,
            hidden=partial(metrics.CONFIGURATION_HIDDEN.labels(store).set, 1),
        )
        for store, look in looks.items()
    }
