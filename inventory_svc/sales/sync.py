"""Keeps Redis and the database of one mind about what operators changed (docs/adr/0022)."""

from typing import TYPE_CHECKING, Any

import structlog

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.spread import FIELDS, Spread
from inventory_svc.keys import sale_key, stock_key
from inventory_svc.sales.fields import to_fields
from inventory_svc.sales.registry import Metadata, SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import SYNC
from seckill.errors import Overloaded, SaleNotLoaded
from seckill.runtime.redis_client import redis_faults
from seckill.v1 import order_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Tries to put state and window on record while others keep changing them.
RECORD_TRIES_MAX = 5
# Status of sync.lua.
_NOT_LOADED = -1
log = structlog.get_logger()


class SaleSync:
    """Brings Redis up to the record of a sale, and the record up to Redis.

    Of the units for sale, of title and price the database has the first word; of state and window
    Redis, so that a sale is stopped without waiting for the database.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        sales: Sales,
        registry: SaleRegistry,
        layouts: Layouts,
        redis_timeout_s: float,
    ) -> None:
        """`redis_timeout_s`: longest wait for the script."""
        self._redis = client
        self._layouts = layouts
        self._spread = Spread(client)
        self._scripts = runner_of(client)
        self._sales = sales
        self._registry = registry
        self._redis_timeout_s = redis_timeout_s

    async def sync(self, sku: str, *, timeout_s: float) -> bool:
        """Bring a loaded sale and its record together; if they agree, write nothing.

        Args:
            timeout_s: longest wait for each answer of order_svc.

        Returns:
            Whether Redis lacked something.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            SaleNotFound, as OrderService says it: it is not registered.
            Overloaded: others keep changing it.
            DependencyUnavailable, OutcomeUnknown: a store or order_svc does not answer.
        """
        record = await self._registry.sale_record(sku, timeout_s=timeout_s)
        await self._layouts.note({sku: record.terms.buckets})
        in_force = await self._sales.record(sku)
        if in_force is None:
            raise SaleNotLoaded(metadata={"sku": sku})
        total, terms_revision = await self._sales.versions(sku)
        is_behind = (
            record.terms.total_units > total
            or record.terms_revision > terms_revision
            or record.revision > in_force.revision
        )
        changed, revision = await self._spread_first(sku), in_force.revision
        if is_behind:
            changed, revision = await self._apply(record)
        if revision > record.revision or (
            in_force.revision == record.revision > 0 and not _agree(in_force, record)
        ):
            await self.put_on_record(sku, metadata=(), timeout_s=timeout_s)
        return changed

    async def apply(self, record: order_pb2.SaleRecord) -> bool:
        """Bring Redis up to a record; an older one than was applied before changes nothing.

        Returns:
            Whether Redis lacked something.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        changed, _ = await self._apply(record)
        return changed

    async def put_on_record(self, sku: str, *, metadata: Metadata, timeout_s: float) -> None:
        """Record the state and the window that are in force, if operators have set any.

        Args:
            metadata: of the operator's call.
            timeout_s: longest wait for each answer of order_svc.

        Raises:
            Overloaded: others keep changing them.
            SeckillError: as OrderService answers, or a store does not.
        """
        sent = None
        for _ in range(RECORD_TRIES_MAX):
            record = await self._sales.record(sku)
            if record is None or not record.revision:
                return
            if record == sent:
                # Nobody has changed it since, and it is not what is on record: Redis has lost
                # changes that are. What was set after that is the operators' last word.
                known = await self._registry.sale_record(sku, timeout_s=timeout_s)
                await self._apply(known, is_newer_here=True)
                sent = None
                continue
            answer = await self._registry.record(record, metadata=metadata, timeout_s=timeout_s)
            if not answer.superseded:
                return
            sent = record
        raise Overloaded("the sale is being changed by others", metadata={"sku": sku})

    async def _apply(
        self, record: order_pb2.SaleRecord, *, is_newer_here: bool = False
    ) -> tuple[bool, int]:
        sku = record.terms.sku
        # The start is not used unless operators have set state or window.
        fields = to_fields(
            record.terms,
            now_ms=0,
            state=record.state,
            revision=record.revision,
            terms_revision=record.terms_revision,
        )
        # Added units come to the first bucket; the others borrow.
        first = self._layouts.tags(sku)[0]
        status, changed, revision = await self._scripts.run(
            SYNC,
            (sale_key(first), stock_key(first)),
            [sku, *(fields[name] for name in FIELDS), int(is_newer_here), 1],
            timeout_s=self._redis_timeout_s,
        )
        if status == _NOT_LOADED:
            raise SaleNotLoaded(metadata={"sku": sku})
        if changed:
            log.info("sale brought up to its record", sku=sku, changed=changed)
        await self._spread_first(sku)
        return bool(changed), revision

    async def _spread_first(self, sku: str) -> bool:
        """Bring the other buckets up to the first one; return whether one lacked something."""
        first, *others = self._layouts.tags(sku)
        if not others:
            return False
        with redis_faults():
            fields: Any = await self._redis.hgetall(sale_key(first))
        if b"state" not in fields:
            return False
        return await self._spread.to(others, sku, fields, timeout_s=self._redis_timeout_s)


def _agree(in_force: order_pb2.RecordSaleRequest, record: order_pb2.SaleRecord) -> bool:
    """Whether state and window are on record as they are in force."""
    terms = record.terms
    return (in_force.state, in_force.start_time, in_force.end_time) == (
        record.state,
        terms.start_time,
        terms.end_time,
    )
