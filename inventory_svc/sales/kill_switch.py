"""The kill switch: one key that stops all sales."""

from typing import TYPE_CHECKING, Any

from inventory_svc.keys import kill_switch_key
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import (
    AT_ONCE,
    ENABLE_KILL_SWITCH,
    Confirmation,
    ScriptRefused,
)
from seckill.runtime.redis_client import redis_faults
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio


class KillSwitch:
    """Reads the switch, and sets it; it stays until it is set again."""

    def __init__(self, client: "redis.asyncio.Redis", *, confirm: Confirmation = AT_ONCE) -> None:
        """`confirm`: what replicas must have before the switch counts as on."""
        self._redis = client
        self._scripts = runner_of(client)
        self._confirm = confirm

    async def read(self) -> inventory_pb2.KillSwitch:
        """Return the switch as it is. Raises DependencyUnavailable if Redis does not answer."""
        with redis_faults():
            stored: Any = await self._redis.get(kill_switch_key())
        return _parse(stored)

    async def enable(
        self, *, reason: str, now_s: float, timeout_s: float
    ) -> inventory_pb2.KillSwitch:
        """Stop all selling; one that is on already keeps its time and its reason.

        Args:
            now_s: Unix time.
            timeout_s: how long to wait for Redis, and for its replicas.

        Raises:
            ScriptRefused: Redis takes no writes, and so sells nothing; but once it does it will.
            DependencyUnavailable: Redis does not answer, and the switch is as it was.
            OutcomeUnknown: Redis did not answer, or too few of its replicas did: ask again.
        """
        text = f"{int(now_s * 1000)} {reason}"
        try:
            (stored,) = await self._scripts.run_for_operator(
                ENABLE_KILL_SWITCH,
                [kill_switch_key()],
                [text],
                timeout_s=timeout_s,
                confirm=self._confirm,
            )
        except ScriptRefused as error:
            raise ScriptRefused(
                "redis takes no writes: nothing is sold, but the kill switch is not on; repeat it"
            ) from error
        return _parse(stored)

    async def disable(self) -> inventory_pb2.KillSwitch:
        """Sell again. No replica is waited for: a failover may undo it, and then nothing is sold.

        Raises:
            OutcomeUnknown: Redis did not answer: ask again.
        """
        with redis_faults(effect_unknown=True):
            pipeline: Any = self._redis.pipeline(transaction=False)
            pipeline.delete(kill_switch_key())
            pipeline.publish(kill_switch_key(), b"")
            await pipeline.execute()
        return _parse(None)


def _parse(stored: bytes | None) -> inventory_pb2.KillSwitch:
    """Return what the key says; with any text in it the switch is on."""
    if stored is None:
        return inventory_pb2.KillSwitch(on=False)
    enabled_ms, _, reason = stored.partition(b" ")
    switch = inventory_pb2.KillSwitch(on=True, reason=reason.decode(errors="replace"))
    if enabled_ms.isdigit():
        switch.enable_time.FromMilliseconds(int(enabled_ms))
    return switch
