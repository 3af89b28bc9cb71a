"""Create Kafka topics, explicitly and any number of times."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError, for_code

from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.errors import StackError
from devstack.kafka_probe import count_brokers

REQUEST_TIMEOUT_MS = 15_000


async def create_topics(
    bootstrap: str,
    partitions: Mapping[str, int],
    configs: Mapping[str, Mapping[str, str]] | None = None,
    *,
    replication_factor: int = 1,
) -> None:
    """Create the topics that do not exist yet; those that exist stay as they are.

    Args:
        bootstrap: the brokers, host:port.
        partitions: number of partitions by topic name.
        configs: topic settings by topic name, e.g. {"orders": {"retention.ms": "86400000"}}.
        replication_factor: replicas of each partition; a local stack has one broker.

    Raises:
        StackError: Kafka refused a topic; names it.
        KafkaConnectionError: no broker answers.
    """
    settings = configs or {}
    wanted = [
        NewTopic(name, count, replication_factor, topic_configs=dict(settings.get(name, {})))
        for name, count in partitions.items()
    ]
    await _until_listed(bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        await _create(admin, wanted)
        await _until_known(admin, list(partitions))
    finally:
        await admin.close()


async def _until_listed(bootstrap: str) -> None:
    """Wait for a broker that its controller takes for gone: the client trips over an empty list."""
    deadline = Deadline(REQUEST_TIMEOUT_MS / 1000)
    while True:
        if await asyncio.to_thread(count_brokers, bootstrap) or deadline.passed:
            return
        await asyncio.sleep(POLL_INTERVAL_S)


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[NewTopic]) -> None:
    deadline = Deadline(REQUEST_TIMEOUT_MS / 1000)
    while True:
        response = await admin.create_topics(wanted)
        refused = [
            (name, code, next(iter(details), None))
            for name, code, *details in response.topic_errors
            if code not in {0, TopicAlreadyExistsError.errno}
        ]
        if not refused:
            return
        name, code, reason = refused[0]
        # The controller takes a broker for gone whose heartbeats are late, as on a busy machine. It
        # says the same where there are too few brokers, for good.
        if code != InvalidReplicationFactorError.errno or deadline.passed:
            raise StackError(
                f"Kafka does not create the topic {name}: {reason or for_code(code).__name__}"
            )
        await asyncio.sleep(POLL_INTERVAL_S)


async def _until_known(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """The controller has the topics; wait until the broker that answers clients has them too."""
    deadline = Deadline(REQUEST_TIMEOUT_MS / 1000)
    while True:
        found = await admin.describe_topics(names)
        if all(topic["error_code"] == 0 for topic in found):
            return
        if deadline.passed:
            raise StackError(f"Kafka has created {', '.join(names)} but does not serve them")
        await asyncio.sleep(POLL_INTERVAL_S)
