"""Holds: the text that Redis keeps, and all holds of a sale as the reconciler reads them."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

from inventory_svc.keys import queue_key, sale_key, stock_key, users_key
from seckill.errors import SaleNotLoaded, SeckillError
from seckill.redis_client import redis_faults
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Holds asked of Redis at once, and in one message: about 100 KiB, a fraction of a millisecond.
SCAN_COUNT = 1_000
# Marks a hold that was released.
RELEASED = "-"


def encode_hold(order_no: str, *, quantity: int, request_id: str, released: bool = False) -> str:
    """A hold as reserve.lua and release.lua write it."""
    return f"{RELEASED if released else ''}{order_no} {quantity} {request_id}"


def decode_hold(user: bytes, text: bytes) -> inventory_pb2.Hold:
    """The hold of a buyer; raises SeckillError where the text is none."""
    released = text.startswith(RELEASED.encode())
    try:
        order_no, quantity, request_id = text.decode("ascii").removeprefix(RELEASED).split(" ")
        return inventory_pb2.Hold(
            order_no=order_no,
            user_id=user.decode("ascii"),
            request_id=request_id,
            quantity=int(quantity),
            released=released,
        )
    except ValueError as error:
        raise SeckillError("a hold in redis is not what the scripts write") from error


class HoldsReader:
    """Reads all holds of a sale without standing in anybody's way."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def read(self, sku: str) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        """The holds in parts, then a summary.

        Redis is asked for a few at a time, so that reservations go on between; a watch on the keys
        tells in the end whether any of them came between.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            DependencyUnavailable: Redis does not answer.
        """
        with redis_faults():
            async with self._redis.pipeline(transaction=True) as pipeline:
                await pipeline.watch(sale_key(sku), stock_key(sku), users_key(sku))
                cursor: Any = None
                while cursor != 0:
                    cursor, page = await _page(pipeline, sku, cursor or 0)
                    yield inventory_pb2.ListHoldsResponse(
                        holds=[decode_hold(user, text) for user, text in page.items()]
                    )
                yield inventory_pb2.ListHoldsResponse(summary=await _summary(pipeline, sku))


async def _page(pipeline: Any, sku: str, cursor: int) -> tuple[int, Mapping[bytes, bytes]]:
    found: tuple[int, Mapping[bytes, bytes]] = await pipeline.hscan(
        users_key(sku), cursor, count=SCAN_COUNT
    )
    return found


async def _summary(pipeline: Any, sku: str) -> inventory_pb2.HoldsSummary:
    pipeline.multi()
    pipeline.hmget(sale_key(sku), ("state", "total", "epoch", "repairs"))
    pipeline.get(stock_key(sku))
    pipeline.xlen(queue_key(sku))
    pipeline.xrange(queue_key(sku), count=1)
    try:
        (state, total, epoch, repairs), stock, queued, oldest = await pipeline.execute()
    except WatchError:
        return inventory_pb2.HoldsSummary(consistent=False)
    if state is None or stock is None:
        raise SaleNotLoaded(metadata={"sku": sku})
    summary = inventory_pb2.HoldsSummary(
        consistent=True,
        remaining_units=int(stock),
        total_units=int(total),
        epoch=int(epoch),
        repairs=int(repairs or 0),
        outbox_entries=queued,
    )
    if oldest:
        # Stream ids begin with milliseconds of Redis' clock.
        summary.outbox_oldest_time.FromMilliseconds(int(oldest[0][0].partition(b"-")[0]))
    return summary
