"""A reconciler on a damaged shop, and what it changed in Redis."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from inventory_svc.keys import sale_key
from rollback_svc.reconcile_source import Holds, ReconcileSource
from rollback_svc.reconciler import Reconciler
from rollback_svc.settings import RollbackSettings
from seckill.runtime.clock import SystemClock
from tests.kits.recovery import DamagedShop

LATER_S = 60.0
# Commands that write, also those that a script gives. Not del: services delete a key that never
# exists, to see if they may write.
WRITES = ("xadd", "hset", "hincrby", "incrby", "decrby", "zadd", "zrem")


class LaterClock(SystemClock):
    """So far ahead that nothing is young."""

    def now_s(self) -> float:
        return super().now_s() + LATER_S


class SellingSource(ReconcileSource):
    """Sees a sale that never stands still: it has sold between each read and its summary."""

    async def holds(self, sku: str, *, timeout_s: float) -> Holds:
        """Return the holds as they were, and a counter of a later moment."""
        holds = await super().holds(sku, timeout_s=timeout_s)
        holds.summary.consistent = False
        holds.summary.remaining_units -= 5
        return holds


async def reconciler_of(
    shop: DamagedShop,
    *,
    clock: SystemClock | None = None,
    holds_max: int = 1_000,
    source: type[ReconcileSource] = ReconcileSource,
    **settings: float,
) -> Reconciler:
    """A replica of the reconciler, for whom a minute has passed unless told otherwise."""
    return Reconciler(
        source(
            to_orders=await shop.channel(shop.orders_address),
            to_inventory=await shop.channel(shop.inventory_address),
            holds_max=holds_max,
        ),
        delay=shop.delay,
        settings=RollbackSettings.model_validate(
            {"redis_url": SecretStr("redis://unused"), **settings}
        ),
        clock=clock or LaterClock(),
    )


async def writes_of(shop: DamagedShop, sku: str) -> Mapping[str, Any]:
    """The sale, how often each command was called that writes, and how many keys were changed."""
    calls = await shop.redis.info("commandstats")
    changes = await shop.redis.info("persistence")
    return {
        "sale": await shop.redis.hgetall(sale_key(sku)),
        **{name: calls.get(f"cmdstat_{name}", {}).get("calls", 0) for name in WRITES},
        "changes": changes["rdb_changes_since_last_save"],
    }
