"""Which solutions have been used, on all gateways that share a Redis."""

import asyncio
from typing import TYPE_CHECKING

import structlog

from gateway.challenge.spent import LocalSpentSolutions
from gateway.issue.shared_buckets import key_prefix
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import redis_faults

if TYPE_CHECKING:
    import redis.asyncio

log = structlog.get_logger()


class SharedSpentSolutions:
    """Asks this gateway's own table first, then Redis.

    While Redis does not answer, a solution counts once on each gateway: the sale goes on.
    """

    def __init__(
        self, local: LocalSpentSolutions, client: "redis.asyncio.Redis", *, timeout_s: float
    ) -> None:
        """`timeout_s`: a slower answer of Redis is none."""
        self._local = local
        self._redis = client
        self._timeout_s = timeout_s

    async def spend(self, name: bytes, *, expire_s: float, now_s: float) -> bool:
        """Use a solution; see SpentSolutions.spend."""
        if not await self._local.spend(name, expire_s=expire_s, now_s=now_s):
            return False
        left_ms = max(1, int((expire_s - now_s) * 1000))
        try:
            with redis_faults():
                async with asyncio.timeout(self._timeout_s):
                    is_new = await self._redis.set(key_of(name), b"", nx=True, px=left_ms)
        except DependencyUnavailable as error:
            log.warning("shared solutions not asked", error=repr(error.__cause__))
            return True
        return bool(is_new)


def key_of(name: bytes) -> str:
    """Return the name of a used solution in Redis."""
    return f"{key_prefix()}spent:{name.hex()}"
