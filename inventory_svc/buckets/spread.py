"""Brings the other buckets of a sale up to its first one: terms, state and window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from inventory_svc.keys import sale_key, stock_key
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import SYNC

if TYPE_CHECKING:
    import redis.asyncio

# Of the sale's hash: what buckets have in common, in the order of sync.lua's arguments.
FIELDS = (
    *("total", "terms_revision", "title", "currency", "price"),
    *("revision", "state", "start_ms", "end_ms"),
)


class Spread:
    """Repeats in the other buckets what was changed in the first. What is newer there stays."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._scripts = runner_of(client)

    async def to(
        self, tags: Sequence[str], sku: str, first: Mapping[bytes, bytes], *, timeout_s: float
    ) -> bool:
        """Bring buckets up to the first one; one that is not loaded is left alone.

        Args:
            tags: of these buckets.
            first: the hash of the first one.
            timeout_s: how long to wait for Redis, for each bucket.

        Returns:
            Whether a bucket lacked something.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run_for_operator.
        """
        values = [first.get(name.encode(), b"0").decode() for name in FIELDS]
        changed = 0
        for tag in tags:
            _, changes, _ = await self._scripts.run_for_operator(
                SYNC,
                (sale_key(tag), stock_key(tag)),
                [sku, *values, 0, 0],
                timeout_s=timeout_s,
            )
            changed += changes
        return changed > 0
