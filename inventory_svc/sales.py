"""Sales as Redis has them: the hash of a sale to and from the contract's messages."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp
from redis.exceptions import ResponseError, WatchError

from inventory_svc.keys import NOTICES, SKUS, sale_key, stock_key, users_key
from seckill.errors import InvalidField, Overloaded, SaleNotLoaded, SaleStateConflict
from seckill.redis_client import redis_faults
from seckill.v1 import order_pb2, sale_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Sales read by one pipeline.
READ_CHUNK = 256
# An update meets another update of the same sale at most so often in a row.
UPDATE_TRIES_MAX = 5

_STATE_NAMES = {
    sale_pb2.SALE_STATE_OPEN: "open",
    sale_pb2.SALE_STATE_PAUSED: "paused",
    sale_pb2.SALE_STATE_CLOSED: "closed",
}
_STATES = {name.encode(): state for state, name in _STATE_NAMES.items()}


def to_fields(
    terms: sale_pb2.SaleTerms,
    *,
    state: sale_pb2.SaleState.ValueType = sale_pb2.SALE_STATE_OPEN,
    revision: int = 0,
) -> dict[str, str | int]:
    """The sale's hash for a sale to load with `terms`; load.lua adds the epoch.

    `revision`: number of the operators' last change, 0 where there was none.
    """
    return {
        "state": _STATE_NAMES[state],
        "revision": revision,
        "start_ms": terms.start_time.ToMilliseconds(),
        "end_ms": terms.end_time.ToMilliseconds(),
        "limit": terms.purchase_limit,
        "rebuy": int(terms.rebuy_allowed),
        "title": terms.title,
        "total": terms.total_units,
        "currency": terms.unit_price.currency,
        "price": terms.unit_price.minor_units,
        "window_ms": terms.payment_window.ToMilliseconds(),
    }


def to_sale(sku: str, fields: Mapping[bytes, bytes], stock: bytes | None) -> sale_pb2.Sale:
    """The sale; not loaded, with nothing but its sku, where a key is missing."""
    if b"state" not in fields or stock is None:
        return sale_pb2.Sale(terms=sale_pb2.SaleTerms(sku=sku))
    remaining = max(0, int(stock))
    sale = sale_pb2.Sale(
        terms=sale_pb2.SaleTerms(
            sku=sku,
            title=fields[b"title"].decode(),
            total_units=int(fields[b"total"]),
            unit_price=sale_pb2.Money(
                currency=fields[b"currency"].decode(), minor_units=int(fields[b"price"])
            ),
            purchase_limit=int(fields[b"limit"]),
            rebuy_allowed=fields[b"rebuy"] == b"1",
        ),
        state=_STATES[fields[b"state"]],
        remaining_units=remaining,
        sold_out=remaining == 0,
        epoch=int(fields[b"epoch"]),
        loaded=True,
    )
    sale.terms.start_time.FromMilliseconds(int(fields[b"start_ms"]))
    sale.terms.end_time.FromMilliseconds(int(fields[b"end_ms"]))
    sale.terms.payment_window.FromMilliseconds(int(fields[b"window_ms"]))
    return sale


def _to_sale_or_lost(sku: str, fields: Any, stock: Any) -> sale_pb2.Sale:
    if isinstance(fields, ResponseError) or isinstance(stock, ResponseError):
        return to_sale(sku, {}, None)
    return to_sale(sku, fields, stock)


class Sales:
    """Reads sales, and changes what an operator may change. DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def skus(self) -> list[str]:
        """The skus of all sales, sorted."""
        with redis_faults():
            members: Any = await self._redis.smembers(SKUS)
        return sorted(member.decode() for member in members)

    async def known(self, sku: str) -> bool:
        """Whether a sale with this sku was ever created here."""
        with redis_faults():
            return bool(await self._redis.sismember(SKUS, sku))

    async def remember(self, sku: str) -> None:
        """Note the sku before its sale is loaded, so that a lost sale is missed."""
        with redis_faults():
            await self._redis.sadd(SKUS, sku)

    async def read(self, skus: Sequence[str]) -> list[sale_pb2.Sale]:
        """The sales as they stand, in the order of `skus`; not loaded where keys are missing."""
        sales: list[sale_pb2.Sale] = []
        for begin in range(0, len(skus), READ_CHUNK):
            chunk = skus[begin : begin + READ_CHUNK]
            pipeline = self._redis.pipeline(transaction=False)
            for sku in chunk:
                pipeline.hgetall(sale_key(sku))
                pipeline.get(stock_key(sku))
            with redis_faults():
                # A key of the wrong type is an answer about one sale, not a fault of all.
                replies = await pipeline.execute(raise_on_error=False)
            sales += map(_to_sale_or_lost, chunk, replies[0::2], replies[1::2])
        return sales

    async def holders(self, sku: str) -> list[str]:
        """Everybody with a hold on the sale, live or released, in no order."""
        with redis_faults():
            users: Any = await self._redis.hkeys(users_key(sku))
        return [user.decode() for user in users]

    async def holder_count(self, sku: str) -> int:
        """How many have a hold, live or released; grows only, while the sale stays loaded."""
        with redis_faults():
            return int(await self._redis.hlen(users_key(sku)))

    async def record(self, sku: str) -> order_pb2.RecordSaleRequest | None:
        """What operators made of the sale, for the database; None where it is not loaded."""
        names = ("state", "start_ms", "end_ms", "revision")
        with redis_faults():
            found: Any = await self._redis.hmget(sale_key(sku), names)
        state, start_ms, end_ms, revision = found
        if state is None:
            return None
        record = order_pb2.RecordSaleRequest(
            sku=sku, state=_STATES[state], revision=int(revision or 0)
        )
        record.start_time.FromMilliseconds(int(start_ms))
        record.end_time.FromMilliseconds(int(end_ms))
        return record

    async def update(
        self,
        sku: str,
        *,
        state: sale_pb2.SaleState.ValueType,
        start_time: Timestamp | None,
        end_time: Timestamp | None,
    ) -> None:
        """Change what is given; unspecified and None leave things as they are.

        Raises:
            SaleNotLoaded: its keys are missing.
            SaleStateConflict: it is closed, for good.
            InvalidField: its end would not be after its begin.
            Overloaded: others kept changing it.
        """
        changes = (
            ("state", _STATE_NAMES.get(state)),
            ("start_ms", start_time and start_time.ToMilliseconds()),
            ("end_ms", end_time and end_time.ToMilliseconds()),
        )
        given = {name: value for name, value in changes if value is not None}
        for _ in range(UPDATE_TRIES_MAX):
            with redis_faults():
                if await self._try_update(sku, given):
                    return
        raise Overloaded("the sale is being changed by others", metadata={"sku": sku})

    async def _try_update(self, sku: str, given: Mapping[Any, str | int]) -> bool:
        """Compare and set; False where somebody else was faster."""
        key = sale_key(sku)
        async with self._redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch(key)
            names = ("state", "start_ms", "end_ms")
            found: Any = await pipeline.hmget(key, names)
            if found[0] is None:
                raise SaleNotLoaded(metadata={"sku": sku})
            closed = _STATES[found[0]] == sale_pb2.SALE_STATE_CLOSED
            if closed and given == {"state": found[0].decode()}:
                return True  # said again, perhaps because the first answer was lost
            if closed:
                raise SaleStateConflict("a closed sale stays closed", metadata={"sku": sku})
            start_ms = int(given.get("start_ms", found[1]))
            if int(given.get("end_ms", found[2])) <= start_ms:
                field = "end_time" if "end_ms" in given else "start_time"
                raise InvalidField([(field, "the end must be after the begin")])
            if not given:
                return True
            pipeline.multi()  # type: ignore[no-untyped-call]
            pipeline.hset(key, mapping=given)
            pipeline.hincrby(key, "revision", 1)
            pipeline.publish(NOTICES, sku)
            try:
                await pipeline.execute()
            except WatchError:
                return False
        return True
