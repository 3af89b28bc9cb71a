"""The group of consumers as Kafka sees it: who is in it, and which partitions they have."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code

from order_svc.intake.barrier import ConsumerBarrier
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_faults import kafka_faults


@dataclass(frozen=True)
class Group:
    """The consumers of the orders topic.

    Attributes:
        partitions: of the topic.
        members: consumers in the group.
        assigned: partitions of the topic that one of them has.
        lag: messages that are not orders yet.
    """

    partitions: int
    members: int
    assigned: frozenset[int]
    lag: int


async def read_group(settings: OrderSettings) -> Group:
    """Ask Kafka; raises DependencyUnavailable if it does not answer."""
    try:
        with kafka_faults():
            async with asyncio.timeout(settings.order_kafka_timeout_s):
                return await _read(settings)
    except (KafkaError, OSError, TimeoutError) as error:
        raise DependencyUnavailable("kafka does not answer") from error


async def _read(settings: OrderSettings) -> Group:
    topic = settings.orders_topic
    lag = await ConsumerBarrier(settings).lag()
    admin = AIOKafkaAdminClient(**settings.kafka_cluster().client_options)
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
        (response,) = await admin.describe_consumer_groups([settings.order_consumer_group])
    finally:
        await admin.close()
    if described["error_code"]:
        raise for_code(described["error_code"])(topic)
    # (error code, group, state, type of protocol, protocol, members, …)
    found: Any = response.groups[0]
    members = found[5]
    assigned: set[int] = set()
    for member in members:  # (id, client id, client host, metadata, assignment)
        if member[4]:
            taken = ConsumerProtocolMemberAssignment.decode(member[4]).partitions()
            assigned |= {at.partition for at in taken if at == TopicPartition(topic, at.partition)}
    return Group(
        partitions=len(described["partitions"]),
        members=len(members),
        assigned=frozenset(assigned),
        lag=lag,
    )
