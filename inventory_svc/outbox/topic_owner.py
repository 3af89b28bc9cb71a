"""Whether the topic of reservation events is this mesh's: its order_svc claims it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inventory_svc.keys import mesh_key
from inventory_svc.settings import InventorySettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import redis_faults
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_slots import tag_of
from seckill.runtime.topic_claims import TopicClaims

if TYPE_CHECKING:
    import redis.asyncio


class TopicOwner:
    """Compares the topic's mesh with that of Redis."""

    def __init__(self, settings: InventorySettings, client: "redis.asyncio.Redis") -> None:
        self._claims = TopicClaims(settings.kafka_cluster(), settings.orders_topic)
        self._redis = client
        # In a cluster all nodes keep it; the one that owns the first slot, in that.
        self._mesh_key = mesh_key(tag_of(0) if isinstance(client, ClusterRedis) else "")
        self._ours = False

    async def require(self) -> None:
        """Raise DependencyUnavailable unless the topic is ours; asked until it was once."""
        if not self._ours and (problems := await self.problems()):
            raise DependencyUnavailable("; ".join(problems))

    async def problems(self) -> Sequence[str]:
        """Return a sentence if the topic is another mesh's; none while either has no mesh yet.

        Raises:
            DependencyUnavailable: Redis or Kafka does not answer.
        """
        with redis_faults():
            mesh_id: Any = await self._redis.get(self._mesh_key)
        own = mesh_id.decode() if mesh_id else ""
        found = await self._claims.foreign(own) if own else ()
        self._ours = not found
        # Either may be the wrong one: the fence says so of Redis.
        return [f"this redis has the mesh {own}, but {problem}" for problem in found]
