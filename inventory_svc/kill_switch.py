"""The kill switch: one key that stops all selling, whatever the sale."""

from typing import TYPE_CHECKING, Any

from inventory_svc.keys import KILL_SWITCH
from inventory_svc.scripts import AT_ONCE, Confirmation
from seckill.errors import OutcomeUnknown
from seckill.redis_client import redis_faults
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio


class KillSwitch:
    """Reads the switch, and sets it; it stays until it is set again."""

    def __init__(self, client: "redis.asyncio.Redis", *, confirm: Confirmation = AT_ONCE) -> None:
        """`confirm`: what replicas must have before the switch counts as thrown."""
        self._redis = client
        self._confirm = confirm

    async def read(self) -> inventory_pb2.KillSwitch:
        """As it stands. Raises DependencyUnavailable where Redis does not say."""
        with redis_faults():
            stored: Any = await self._redis.get(KILL_SWITCH)
        return _parse(stored)

    async def throw(self, *, reason: str, now_s: float) -> inventory_pb2.KillSwitch:
        """Stop all selling; one that is on already keeps its time and its reason.

        Args:
            now_s: Unix time.

        Raises:
            OutcomeUnknown: Redis did not answer, or too few of its replicas did: ask again.
        """
        with redis_faults(effect_unknown=True):
            stored: Any = await self._redis.get(KILL_SWITCH)
            if stored is None:
                stored = f"{int(now_s * 1000)} {reason}".encode()
            pipeline: Any = self._redis.pipeline(transaction=False)
            # Written even where nothing changes: WAIT is about this connection's last write.
            pipeline.set(KILL_SWITCH, stored)
            pipeline.publish(KILL_SWITCH, b"")
            if self._confirm.replicas:
                pipeline.execute_command("WAIT", self._confirm.replicas, self._confirm.timeout_ms)
            replies = await pipeline.execute()
        if self._confirm.replicas and replies[-1] < self._confirm.replicas:
            raise OutcomeUnknown(
                f"thrown, but {replies[-1]} of {self._confirm.replicas} replicas have confirmed it"
            )
        return _parse(stored)

    async def lift(self) -> inventory_pb2.KillSwitch:
        """Sell again. A failover may undo it, which sells nothing: nobody is waited for.

        Raises:
            OutcomeUnknown: Redis did not answer: ask again.
        """
        with redis_faults(effect_unknown=True):
            pipeline: Any = self._redis.pipeline(transaction=False)
            pipeline.delete(KILL_SWITCH)
            pipeline.publish(KILL_SWITCH, b"")
            await pipeline.execute()
        return _parse(None)


def _parse(stored: bytes | None) -> inventory_pb2.KillSwitch:
    """What the key says; whatever stands there, the switch is on."""
    if stored is None:
        return inventory_pb2.KillSwitch(on=False)
    thrown_ms, _, reason = stored.partition(b" ")
    switch = inventory_pb2.KillSwitch(on=True, reason=reason.decode(errors="replace"))
    if thrown_ms.isdigit():
        switch.thrown_time.FromMilliseconds(int(thrown_ms))
    return switch
