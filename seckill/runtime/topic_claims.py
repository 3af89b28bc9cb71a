"""Whose a Kafka topic is: two meshes on one topic would make orders of each other's reservations.

Kafka keeps a text with each offset that a group commits. A group of its own for each topic, in
which nobody consumes, has the id of the mesh whose topic it is. Groups without members are
forgotten after a week (offsets.retention.minutes), so a claim is renewed while its mesh runs.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata

from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_faults import kafka_faults

TIMEOUT_S = 5.0
RETRY_WAIT_S = 2.0
RENEW_INTERVAL_S = 3_600.0
COORDINATOR_WAIT_S = 0.1
_NO_COORDINATOR_YET = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


def claim_group(topic: str) -> str:
    """Return the group that has the claim to a topic."""
    return f"{topic}.mesh"


class TopicClaims:
    """Reads and makes claims to topics."""

    def __init__(self, cluster: KafkaCluster, *topics: str) -> None:
        self._cluster = cluster
        self._topics = topics
        # Monotonic time at which the claim is written again.
        self._renew_s = -math.inf

    async def foreign(self, mesh_id: str) -> Sequence[str]:
        """Return a sentence for each topic that another mesh has claimed.

        Raises:
            DependencyUnavailable: Kafka does not answer.
        """
        return _foreign(await self._owners(), mesh_id)

    async def claim(self, mesh_id: str) -> Sequence[str]:
        """Claim the topics unless others have them; returns and raises as `foreign`."""
        owners = await self._owners()
        problems = _foreign(owners, mesh_id)
        fresh = time.monotonic() < self._renew_s and set(owners.values()) == {mesh_id}
        if problems or fresh:
            return problems
        try:
            with kafka_faults():
                async with asyncio.timeout(TIMEOUT_S):
                    for topic in self._topics:
                        await self._write(topic, mesh_id)
        except (KafkaError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("kafka does not answer") from error
        self._renew_s = time.monotonic() + RENEW_INTERVAL_S
        # Another mesh may have done the same at the same time.
        return await self.foreign(mesh_id)

    async def _owners(self) -> Mapping[str, str]:
        """Return the mesh that has claimed each topic, "" for none."""
        admin = AIOKafkaAdminClient(
            **self._cluster.client_options, request_timeout_ms=int(TIMEOUT_S * 1000)
        )
        try:
            with kafka_faults():
                async with asyncio.timeout(TIMEOUT_S):
                    await admin.start()
                    return {topic: await _owner(admin, topic) for topic in self._topics}
        except (KafkaError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("kafka does not answer") from error
        finally:
            await admin.close()

    async def _write(self, topic: str, mesh_id: str) -> None:
        place = TopicPartition(topic, 0)
        client = AIOKafkaConsumer(
            **self._cluster.client_options, group_id=claim_group(topic), enable_auto_commit=False
        )
        try:
            await client.start()
            client.assign([place])
            await client.commit({place: OffsetAndMetadata(0, mesh_id)})
        finally:
            # Gathered: it may end with a CancelledError of its own, see OrderConsumer.
            await asyncio.gather(client.stop(), return_exceptions=True)


async def _owner(admin: AIOKafkaAdminClient, topic: str) -> str:
    while True:
        try:
            found = await admin.list_consumer_group_offsets(claim_group(topic))
            break
        except _NO_COORDINATOR_YET:
            # Brokers make the topic of offsets when a group first asks for it.
            await asyncio.sleep(COORDINATOR_WAIT_S)
    entry = found.get(TopicPartition(topic, 0))
    return "" if entry is None or entry.offset < 0 else str(entry.metadata or "")


def _foreign(owners: Mapping[str, str], mesh_id: str) -> Sequence[str]:
    return [
        f"topic {topic} belongs to another mesh ({owner}): use one of your own, or, if that mesh is"
        f" gone for good, delete the consumer group {claim_group(topic)}"
        for topic, owner in owners.items()
        if owner not in ("", mesh_id)
    ]
