"""Moves units from one bucket of a sale to another: lend.lua, take.lua and settle.lua in turn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inventory_svc import metrics
from inventory_svc.keys import replication_marker_key, sale_key, stock_key, transfers_key
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import (
    AT_ONCE,
    LEND,
    SETTLE,
    TAKE,
    UNGUARDED,
    Confirmation,
    Guard,
)
from seckill.errors import SaleNotLoaded

if TYPE_CHECKING:
    import redis.asyncio

# Units lent at once beyond those that are asked for: a few hundred transfers move a million.
BLOCK_MAX = 4_096
# Statuses of lend.lua and take.lua.
_NOT_LOADED, _ADDED = -1, 1


class Transfers:
    """Moves units, each step once however often it is repeated.

    A transfer that was left in the middle is finished by the next one between the same buckets,
    whichever replica moves it. Each step has to be with replicas, if reservations have to
    (`confirm`), before the next one counts on it.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        confirm: Confirmation = AT_ONCE,
        guard: Guard = UNGUARDED,
        redis_timeout_s: float,
    ) -> None:
        """Describe it.

        Args:
            confirm: what replicas must confirm of a step.
            guard: which servers may take part.
            redis_timeout_s: longest wait for each step.
        """
        self._scripts = runner_of(client, guard=guard)
        self._confirm = confirm
        self._timeout_s = redis_timeout_s

    async def move(
        self, tags: Sequence[str], lender: int, borrower: int, *, epoch: int, need: int
    ) -> int:
        """Move units to the borrower: what is on record, else `need` or up to half of the lender's.

        Args:
            tags: of the sale's buckets.
            epoch: under which both are loaded.
            need: at least 1; fewer come if the lender has fewer.

        Returns:
            Units that the borrower has now and had not before.

        Raises:
            SaleNotLoaded: a bucket is not loaded under this epoch.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run; what has left the lender
                stays on record.
        """
        status, number, units = await self._run(
            LEND, tags[lender], [borrower, epoch, need, BLOCK_MAX]
        )
        if status == _NOT_LOADED:
            raise SaleNotLoaded
        if not units:
            return 0
        (status,) = await self._run(TAKE, tags[borrower], [lender, epoch, number, units])
        if status == _NOT_LOADED:
            raise SaleNotLoaded
        await self._scripts.run(
            SETTLE,
            (sale_key(tags[lender]), transfers_key(tags[lender])),
            [borrower, epoch, number],
            timeout_s=self._timeout_s,
        )
        if status != _ADDED:
            return 0
        metrics.BUCKET_TRANSFERS_TOTAL.inc()
        metrics.BUCKET_TRANSFERRED_UNITS_TOTAL.inc(units)
        return int(units)

    async def _run(self, script: Any, tag: str, args: Sequence[str | int]) -> list[Any]:
        return await self._scripts.run(
            script,
            (sale_key(tag), stock_key(tag), transfers_key(tag)),
            args,
            timeout_s=self._timeout_s,
            confirm=self._confirm,
            # A step that was made before may not be with replicas yet.
            marker=replication_marker_key(tag),
        )
