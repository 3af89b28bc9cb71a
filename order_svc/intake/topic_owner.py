"""Claims the mesh's topics in Kafka, and lets work on them start only when they are ours."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from order_svc.db.database import Database
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.topic_claims import RETRY_WAIT_S, TopicClaims

log = structlog.get_logger()


class TopicOwner:
    """Claims the topics of reservation events and of dead letters in the name of this mesh.

    Order events may share a topic with another mesh's: nobody acts on an order that is not theirs.
    """

    def __init__(self, settings: OrderSettings, database: Database) -> None:
        self._claims = TopicClaims(
            settings.kafka_cluster(), settings.orders_topic, settings.dead_letter_topic
        )
        self._database = database

    async def claim(self) -> Sequence[str]:
        """Claim them, or renew the claim; returns a sentence for each that is another mesh's.

        Raises:
            DependencyUnavailable: Kafka or the database does not answer.
        """
        (row,) = await self._database.fetch("sales/find_mesh")
        return await self._claims.claim(row["mesh_id"])

    async def run_when_ours(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` once the topics are ours, until cancelled."""
        try:
            while not await self._is_ours():  # noqa: ASYNC110 - Kafka does not tell
                await asyncio.sleep(RETRY_WAIT_S)
            await work
        finally:
            work.close()

    async def _is_ours(self) -> bool:
        try:
            problems = await self.claim()
        except DependencyUnavailable as error:
            log.warning("topics not claimed", error=str(error), cause=repr(error.__cause__))
            return False
        if problems:
            log.error("topics belong to another mesh", problems=list(problems))
        return not problems
