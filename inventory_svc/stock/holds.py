"""Reads all holds of a sale, for the reconciler."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.standing import Standing, Standings
from inventory_svc.keys import (
    backlog_key,
    outbox_key,
    sale_key,
    single_outbox_key,
    stock_key,
    users_key,
)
from inventory_svc.outbox.backlog import FIELDS, reservations_waiting
from inventory_svc.stock.hold import parse_hold
from seckill.errors import SaleNotLoaded
from seckill.runtime.redis_client import redis_faults, server_of
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Holds asked of Redis at once, and in one message: about 100 KiB, a fraction of a millisecond.
SCAN_COUNT = 1_000


class HoldsReader:
    """Reads all holds of a sale while reservations go on."""

    def __init__(self, client: "redis.asyncio.Redis", layouts: Layouts | None = None) -> None:
        """`layouts`: which sales have several buckets, as the whole process knows it."""
        self._redis = client
        self._layouts = layouts or Layouts(client)
        self._standings = Standings(client)

    async def read(self, sku: str) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        """Yield the holds in parts, then a summary.

        Redis is asked for a few at a time, so that reservations go on between; a watch on the keys
        tells in the end whether any of them came between. Buckets are read one after the other:
        what was reserved in one does not touch the others, and units that moved between them are
        told by their transfers.

        Raises:
            SaleNotLoaded: the sale's keys are missing, or those of a bucket.
            DependencyUnavailable: Redis does not answer.
        """
        tags = self._layouts.tags(sku)
        before = await self._standings.read(tags) if len(tags) > 1 else None
        summary = inventory_pb2.HoldsSummary(consistent=True)
        for tag in tags:
            async for part in self._read_one(sku, tag):
                if part.HasField("summary"):
                    _add(summary, part.summary)
                else:
                    yield part
        if before is not None:
            await self._add_transfers(summary, before, sku)
        yield inventory_pb2.ListHoldsResponse(summary=summary)

    async def _read_one(self, sku: str, tag: str) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        """Yield the holds of one bucket in parts, then its summary."""
        with redis_faults():
            server = await server_of(self._redis, sale_key(tag))
            async with server.pipeline(transaction=True) as pipeline:
                await pipeline.watch(sale_key(tag), stock_key(tag), users_key(tag))
                cursor: Any = None
                while cursor != 0:
                    cursor, page = await _page(pipeline, tag, cursor or 0)
                    yield inventory_pb2.ListHoldsResponse(
                        holds=[parse_hold(user, text) for user, text in page.items()]
                    )
                yield inventory_pb2.ListHoldsResponse(summary=await _summary(pipeline, sku, tag))

    async def _add_transfers(
        self, summary: inventory_pb2.HoldsSummary, before: Standing, sku: str
    ) -> None:
        """Add the units that are on their way between buckets, if none moved meanwhile."""
        after = await self._standings.read(self._layouts.tags(sku))
        if not after.is_loaded:
            raise SaleNotLoaded(metadata={"sku": sku})
        if after.moved_since(before):
            summary.consistent = False
        summary.remaining_units += sum(transfer.units for transfer in after.transfers)


def _add(summary: inventory_pb2.HoldsSummary, bucket: inventory_pb2.HoldsSummary) -> None:
    """Add the summary of one bucket to that of the sale."""
    summary.consistent = summary.consistent and bucket.consistent
    summary.remaining_units += bucket.remaining_units
    # All buckets have the total of the sale.
    summary.total_units = summary.total_units or bucket.total_units
    summary.epoch = summary.epoch or bucket.epoch
    summary.repairs += bucket.repairs
    summary.outbox_entries += bucket.outbox_entries
    if bucket.HasField("outbox_oldest_time") and (
        not summary.HasField("outbox_oldest_time")
        or bucket.outbox_oldest_time.ToNanoseconds() < summary.outbox_oldest_time.ToNanoseconds()
    ):
        summary.outbox_oldest_time.CopyFrom(bucket.outbox_oldest_time)


async def _page(pipeline: Any, tag: str, cursor: int) -> tuple[int, Mapping[bytes, bytes]]:
    found: tuple[int, Mapping[bytes, bytes]] = await pipeline.hscan(
        users_key(tag), cursor, count=SCAN_COUNT
    )
    return found


async def _summary(
    pipeline: Any, sku: str, tag: str, *, consistent: bool = True
) -> inventory_pb2.HoldsSummary:
    pipeline.multi()
    pipeline.hmget(sale_key(tag), ("state", "total", "epoch", "repairs"))
    pipeline.get(stock_key(tag))
    pipeline.hmget(backlog_key(tag), FIELDS)
    for outbox in (outbox_key(tag), single_outbox_key(tag)):
        pipeline.xlen(outbox)
        pipeline.xrange(outbox, count=1)
    try:
        (state, total, epoch, repairs), stock, counted, *outboxes = await pipeline.execute()
    except WatchError:
        # The watch is over: what is read now is of a later moment than the holds.
        return await _summary(pipeline, sku, tag, consistent=False)
    if state is None or stock is None:
        raise SaleNotLoaded(metadata={"sku": sku})
    summary = inventory_pb2.HoldsSummary(
        consistent=consistent,
        remaining_units=int(stock),
        total_units=int(total),
        epoch=int(epoch),
        repairs=int(repairs or 0),
        outbox_entries=reservations_waiting(outboxes[0], counted) + outboxes[2],
    )
    # Stream ids start with milliseconds of Redis' clock.
    times_ms = [int(page[0][0].partition(b"-")[0]) for page in outboxes[1::2] if page]
    if times_ms:
        summary.outbox_oldest_time.FromMilliseconds(min(times_ms))
    return summary
