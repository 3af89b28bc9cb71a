"""Reads all holds of a sale, for the reconciler."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

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

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def read(self, sku: str) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        """Yield the holds in parts, then a summary.

        Redis is asked for a few at a time, so that reservations go on between; a watch on the keys
        tells in the end whether any of them came between.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            DependencyUnavailable: Redis does not answer.
        """
        with redis_faults():
            server = await server_of(self._redis, sale_key(sku))
            async with server.pipeline(transaction=True) as pipeline:
                await pipeline.watch(sale_key(sku), stock_key(sku), users_key(sku))
                cursor: Any = None
                while cursor != 0:
                    cursor, page = await _page(pipeline, sku, cursor or 0)
                    yield inventory_pb2.ListHoldsResponse(
                        holds=[parse_hold(user, text) for user, text in page.items()]
                    )
                yield inventory_pb2.ListHoldsResponse(summary=await _summary(pipeline, sku))


async def _page(pipeline: Any, sku: str, cursor: int) -> tuple[int, Mapping[bytes, bytes]]:
    found: tuple[int, Mapping[bytes, bytes]] = await pipeline.hscan(
        users_key(sku), cursor, count=SCAN_COUNT
    )
    return found


async def _summary(
    pipeline: Any, sku: str, *, consistent: bool = True
) -> inventory_pb2.HoldsSummary:
    pipeline.multi()
    pipeline.hmget(sale_key(sku), ("state", "total", "epoch", "repairs"))
    pipeline.get(stock_key(sku))
    pipeline.hmget(backlog_key(sku), FIELDS)
    for outbox in (outbox_key(sku), single_outbox_key(sku)):
        pipeline.xlen(outbox)
        pipeline.xrange(outbox, count=1)
    try:
        (state, total, epoch, repairs), stock, counted, *outboxes = await pipeline.execute()
    except WatchError:
        # The watch is over: what is read now is of a later moment than the holds.
        return await _summary(pipeline, sku, consistent=False)
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
