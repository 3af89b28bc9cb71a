"""Sales as they are displayed: what replicas tell of them, and the primary what they lack."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from inventory_svc.keys import sale_key, skus_key, stock_key
from inventory_svc.sales.fields import to_sale
from inventory_svc.sales.sales import Sales
from seckill.runtime.redis_client import Command
from seckill.runtime.redis_reads import PrimaryReads
from seckill.v1 import sale_pb2


class SaleLooks:
    """Reads sales for display; nothing may be decided by them."""

    def __init__(self, sales: Sales, reads: PrimaryReads) -> None:
        """`reads`: asked before the primary."""
        self._sales = sales
        self._reads = reads

    async def read(self, skus: Sequence[str]) -> tuple[list[sale_pb2.Sale], float | None]:
        """Return the sales in the order of `skus`, as Sales.read does, and their age in seconds.

        The age is the greatest possible one of what a replica has told; None if none was asked.
        """
        commands: list[Command] = []
        for sku in skus:
            commands += [("HGETALL", sale_key(sku)), ("GET", stock_key(sku))]
        replies, age_s = await self._reads.read(commands)
        found = {
            sku: to_sale(sku, _fields(pairs), stock)
            for sku, pairs, stock in zip(skus, replies[0::2], replies[1::2], strict=True)
            if pairs and stock is not None
        }
        # A sale that a replica does not have may have been loaded just now.
        lacking = [sku for sku in skus if sku not in found]
        found |= dict(zip(lacking, await self._sales.read(lacking), strict=True))
        return [found[sku] for sku in skus], age_s if len(lacking) < len(skus) else None

    async def skus(self) -> tuple[list[str], float | None]:
        """Return the skus of all sales, sorted, and their age as `read` does."""
        (members,), age_s = await self._reads.read([("SMEMBERS", skus_key())])
        if not members:
            return await self._sales.skus(), None
        return sorted(member.decode() for member in members), age_s


def age_of(*ages_s: float | None) -> Duration | None:
    """Return the greatest of these ages; None if there is none."""
    known_s = [age_s for age_s in ages_s if age_s is not None]
    if not known_s:
        return None
    age = Duration()
    # A microsecond more, so that rounding makes none younger.
    age.FromMicroseconds(int(max(known_s) * 1e6) + 1)
    return age


def _fields(pairs: Any) -> Mapping[bytes, bytes]:
    """Return a hash from its raw reply: a list in Redis' second protocol, a map in the third."""
    return pairs if isinstance(pairs, dict) else dict(zip(pairs[0::2], pairs[1::2], strict=True))
