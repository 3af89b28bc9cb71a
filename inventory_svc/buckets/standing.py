"""What the buckets of a sale have, and what is on its way between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from inventory_svc.keys import sale_key, stock_key, transfers_key
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import is_unreachable, redis_faults

if TYPE_CHECKING:
    import redis.asyncio

# Reads in a row between which units may move, until none have.
LOOKS_MAX = 8
_OUT, _IN = "out:", "in:"


class Transfer(NamedTuple):
    """Units that one bucket has lent to another."""

    lender: int
    borrower: int
    number: int
    units: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it was read.

    Attributes:
        fields: of its sale's hash; empty if it is not loaded.
        units: that are not held; negative if more is held than there is.
        lent: borrower → (number of the last transfer to it, its units until it is settled).
        taken: lender → number of the last transfer from it.
        is_steady: False if units went out or came in while it was read.
        is_reachable: False if its node of a cluster does not answer.
    """

    fields: Mapping[bytes, bytes]
    units: int
    lent: Mapping[int, tuple[int, int]]
    taken: Mapping[int, int]
    is_steady: bool = True
    is_reachable: bool = True

    @property
    def epoch(self) -> int:
        """Epoch it is loaded under, 0 if it is not."""
        return int(self.fields.get(b"epoch", 0))


@dataclass(frozen=True, slots=True)
class Standing:
    """All buckets of a sale, each as of a moment of its own."""

    buckets: Sequence[Bucket]

    @property
    def is_loaded(self) -> bool:
        """Whether all buckets are loaded, under one epoch."""
        return 0 not in (epochs := {one.epoch for one in self.buckets}) and len(epochs) == 1

    @property
    def is_reachable(self) -> bool:
        """Whether all nodes have answered."""
        return all(bucket.is_reachable for bucket in self.buckets)

    @property
    def transfers(self) -> Iterator[Transfer]:
        """Transfers whose units are in neither bucket."""
        for lender, bucket in enumerate(self.buckets):
            for borrower, (number, units) in bucket.lent.items():
                if units and self.buckets[borrower].taken.get(lender, 0) < number:
                    yield Transfer(lender, borrower, number, units)

    @property
    def units(self) -> int:
        """Units that are not held, in buckets and between them; exact once nothing moved."""
        between = sum(transfer.units for transfer in self.transfers)
        return sum(bucket.units for bucket in self.buckets) + between

    def moved_since(self, earlier: "Standing") -> bool:
        """Return whether units have left a bucket for another, or come to one, since then."""
        steady = all(bucket.is_steady for bucket in (*earlier.buckets, *self.buckets))
        return not steady or any(
            (now.epoch, now.lent, now.taken) != (before.epoch, before.lent, before.taken)
            for now, before in zip(self.buckets, earlier.buckets, strict=True)
        )


class Standings:
    """Reads the buckets of sales. DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def read(self, tags: Sequence[str]) -> Standing:
        """Return the buckets; those of other nodes too if one does not answer.

        Each is read as of one moment, which differs from bucket to bucket: units that go from one
        to the other meanwhile may be counted twice, or not at all if `Standing.moved_since` says so
        of a later read.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for tag in tags:
            pipeline.hgetall(transfers_key(tag))
            pipeline.hgetall(sale_key(tag))
            pipeline.get(stock_key(tag))
            # The same as before, or the stock may be of another moment.
            pipeline.hgetall(transfers_key(tag))
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        return Standing([_bucket(*replies[at : at + 4]) for at in range(0, len(replies), 4)])

    async def read_still(self, tags: Sequence[str], *, below: int) -> tuple[Standing, bool]:
        """Return the buckets, and whether `units` is no less than there were at one moment.

        Args:
            below: it is looked at again only if there seem to be fewer units than this.
        """
        before = await self.read(tags)
        for _ in range(LOOKS_MAX):
            if before.units >= below:
                return before, True
            now = await self.read(tags)
            if not now.moved_since(before):
                return max(before, now, key=lambda one: one.units), True
            before = now
        return before, False


def _bucket(transfers: Any, fields: Any, stock: Any, transfers_after: Any) -> Bucket:
    replies = (transfers, fields, stock, transfers_after)
    for reply in replies:
        if is_unreachable(reply):
            return Bucket({}, 0, {}, {}, is_reachable=False)
        if isinstance(reply, ResponseError) and not str(reply).startswith("WRONGTYPE"):
            # A server that is busy, or refuses us, has not lost the bucket.
            raise DependencyUnavailable("redis refuses to tell of a bucket") from reply
    if any(isinstance(reply, Exception) for reply in replies):
        return Bucket({}, 0, {}, {})
    lent, taken = movements_in(transfers)
    if b"state" not in fields or stock is None:
        return Bucket({}, 0, lent, taken)
    return Bucket(fields, int(stock), lent, taken, is_steady=transfers == transfers_after)


def movements_in(
    transfers: Mapping[bytes, bytes],
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Return what a bucket has lent and taken, as Bucket has it, from `seckill:transfers:{tag}`."""
    lent: dict[int, tuple[int, int]] = {}
    taken: dict[int, int] = {}
    for name, value in transfers.items():
        field = name.decode()
        if field.startswith(_OUT):
            number, units = value.split()
            lent[int(field.removeprefix(_OUT))] = int(number), int(units)
        elif field.startswith(_IN):
            taken[int(field.removeprefix(_IN))] = int(value)
    return lent, taken
