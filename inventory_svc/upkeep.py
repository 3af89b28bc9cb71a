"""Loading and repairing a sale: load.lua and repair.lua as functions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inventory_svc.holds import encode_hold
from inventory_svc.keys import queue_key, sale_key, staged_key, stock_key, users_key
from inventory_svc.scripts import LOAD, REPAIR, ScriptRunner
from seckill.errors import DependencyUnavailable, PipelineBusy, SaleNotLoaded
from seckill.redis_client import redis_faults
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Staged holds that nobody loads are gone after this.
STAGED_TTL_S = 3_600
# Statuses of repair.lua.
_NOT_LOADED, _OVERTAKEN = -1, -2


class StockUpkeep:
    """Loads sales, and brings them into line."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        self._scripts = ScriptRunner(client)

    async def load(
        self,
        sku: str,
        fields: Mapping[str, str | int],
        *,
        epoch: int,
        units: int,
        timeout_s: float,
        staged: int = 0,
    ) -> bool:
        """Load a sale, unless it is loaded.

        Args:
            fields: of the sale's hash; see sales.py.
            epoch: number of the load, at least 1.
            units: units that nobody holds.
            timeout_s: how long to wait for Redis.
            staged: holds that `stage` put aside for this epoch, where the sale is rebuilt.

        Returns:
            Whether it was loaded now.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run; the former also where Redis
                has lost staged holds again.
        """
        args = [sku, epoch, units, staged, *(value for pair in fields.items() for value in pair)]
        keys = (
            sale_key(sku),
            stock_key(sku),
            users_key(sku),
            queue_key(sku),
            staged_key(sku, epoch),
        )
        loaded, _ = await self._scripts.run(LOAD, keys, args, timeout_s=timeout_s)
        if loaded < 0:
            raise DependencyUnavailable("redis has lost what was staged")
        return bool(loaded == 1)

    async def stage(self, sku: str, holds: Mapping[str, str], *, epoch: int) -> int:
        """Put holds aside for `load`, some at a time; a buyer's later hold replaces an earlier one.

        Args:
            holds: user → hold, live or released.

        Returns:
            How many buyers were new. DependencyUnavailable where Redis does not answer.
        """
        if not holds:
            return 0
        key = staged_key(sku, epoch)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(key, mapping=dict[Any, Any](holds))
        pipeline.expire(key, STAGED_TTL_S)
        with redis_faults():
            added, _ = await pipeline.execute()
        return int(added)

    async def unstage(self, sku: str, *, epoch: int) -> None:
        """Forget what was put aside for this epoch."""
        with redis_faults():
            await self._redis.unlink(staged_key(sku, epoch))

    async def repair(
        self, request: inventory_pb2.RepairHoldsRequest, *, timeout_s: float
    ) -> inventory_pb2.RepairHoldsResponse:
        """Bring holds, outbox and stock into line, in one atomic step.

        Args:
            request: a valid one.
            timeout_s: how long to wait for Redis.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            PipelineBusy: another repair, or another load, came between.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        sku = request.sku
        tasks = [
            *(("write", hold) for hold in request.missing),
            *(("send", hold) for hold in request.unsent),
            *(("release", hold) for hold in request.ended),
        ]
        args: list[str | int] = [
            sku,
            request.epoch,
            request.repairs,
            request.surplus_units,
            int(request.restock),
        ]
        for task, hold in tasks:
            text = encode_hold(hold.order_no, quantity=hold.quantity, request_id=hold.request_id)
            args += [task, hold.user_id, text]
        keys = (sale_key(sku), stock_key(sku), users_key(sku), queue_key(sku))
        status, *reply = await self._scripts.run(REPAIR, keys, args, timeout_s=timeout_s)
        if status == _NOT_LOADED:
            raise SaleNotLoaded(metadata={"sku": sku})
        if status == _OVERTAKEN:
            raise PipelineBusy("another repair came between", metadata={"sku": sku})
        return inventory_pb2.RepairHoldsResponse(
            stock_change_units=reply[0],
            order_nos=[
                hold.order_no for (_, hold), done in zip(tasks, reply[1:], strict=True) if done
            ],
        )
