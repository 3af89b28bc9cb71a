"""Loading and repairing a sale: load.lua and repair.lua as functions."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inventory_svc.keys import (
    backlog_key,
    outbox_key,
    past_key,
    sale_key,
    staged_key,
    staged_past_key,
    stock_key,
    transfers_key,
    users_key,
)
from inventory_svc.stock.hold import RELEASED, add_past, format_hold
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import BAR, LOAD, REPAIR, RESEND, UNGUARDED, Guard
from seckill.errors import ConsumersLagging, DependencyUnavailable, SaleNotLoaded
from seckill.runtime import request_ids
from seckill.runtime.redis_client import redis_faults, server_of
from seckill.v1 import inventory_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Staged holds that are not loaded are gone after this.
STAGED_TTL_S = 3_600
# Holds that are looked at, and sent once more, at a time.
HOLDS_AT_ONCE = 1_000
# Status of load.lua.
_STAGED_LOST = -1
# Statuses of repair.lua.
_NOT_LOADED, _OVERTAKEN = -1, -2


@dataclass(frozen=True, slots=True)
class Staged:
    """What was put aside to be loaded.

    Attributes:
        buyers: so many have a hold, live or released.
        with_past: so many of them had others before it.
    """

    buyers: int = 0
    with_past: int = 0

    def __add__(self, other: "Staged") -> "Staged":
        return Staged(self.buyers + other.buyers, self.with_past + other.with_past)


NOTHING_STAGED = Staged()


class SaleLoader:
    """Loads sales, and repairs them."""

    def __init__(self, client: "redis.asyncio.Redis", *, guard: Guard = UNGUARDED) -> None:
        """`guard`: which servers sales may be loaded into."""
        self._redis = client
        self._scripts = runner_of(client, guard=guard)

    async def load(
        self,
        sku: str,
        fields: Mapping[str, str | int],
        *,
        epoch: int,
        units: int,
        timeout_s: float,
        staged: "Staged" = NOTHING_STAGED,
        bucket: str = "",
    ) -> bool:
        """Load a sale, unless it is loaded; or one bucket of it.

        Args:
            fields: of the sale's hash; see sales.py.
            epoch: number of the load, at least 1.
            units: units that are not held.
            timeout_s: how long to wait for Redis.
            staged: what `stage` put aside for this epoch, if the sale is rebuilt.
            bucket: its tag, if the sale has several. One that was barred under a later epoch is
                not loaded either.

        Returns:
            Whether it was loaded now.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run; the former also if Redis has
                lost staged holds again.
        """
        args = [
            *(sku, epoch, units, staged.buyers, staged.with_past),
            *(value for pair in fields.items() for value in pair),
        ]
        tag = bucket or sku
        keys = (
            sale_key(tag),
            stock_key(tag),
            users_key(tag),
            outbox_key(tag),
            staged_key(tag, epoch),
            past_key(tag),
            staged_past_key(tag, epoch),
            *([transfers_key(tag)] if bucket else ()),
        )
        loaded, _ = await self._scripts.run(LOAD, keys, args, timeout_s=timeout_s)
        if loaded == _STAGED_LOST:
            raise DependencyUnavailable("redis has lost what was staged")
        return bool(loaded == 1)

    async def bar(self, bucket: str, *, epoch: int, timeout_s: float) -> bool:
        """Close a bucket that is rebuilt, and bar every load under an earlier epoch.

        Args:
            bucket: its tag.
            epoch: that it is rebuilt under.
            timeout_s: how long to wait for Redis.

        Returns:
            False if a rebuild under a later epoch came before; then nothing is changed.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        keys = (sale_key(bucket), stock_key(bucket), transfers_key(bucket))
        (barred,) = await self._scripts.run(BAR, keys, [epoch], timeout_s=timeout_s)
        return bool(barred)

    async def stage(self, tag: str, holds: Iterable[tuple[str, str]], *, epoch: int) -> Staged:
        """Put holds aside for `load`, some at a time; a buyer's later hold replaces an earlier one.

        Args:
            tag: of the bucket, or the sku of a sale that has one only.
            holds: pairs of user and hold, live or released.

        Returns:
            The buyers that were new, and those that had no second hold before.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        pairs = list(holds)
        users = list(dict.fromkeys(user for user, _ in pairs))
        if not users:
            return NOTHING_STAGED
        key, key_of_past = staged_key(tag, epoch), staged_past_key(tag, epoch)
        with redis_faults():
            known: list[Any] = await self._redis.hmget(key, users)
            known_past: list[Any] = await self._redis.hmget(key_of_past, users)
        last = {user: text.decode() for user, text in zip(users, known, strict=True) if text}
        past = {user: text.decode() for user, text in zip(users, known_past, strict=True) if text}
        for user, hold in pairs:
            if user in last:
                past[user] = add_past(last[user], past.get(user, ""))
            last[user] = hold
        with redis_faults():
            server = await server_of(self._redis, key)
        pipeline = server.pipeline(transaction=True)
        for hash_key, texts in ((key, last), (key_of_past, past)):
            if texts:
                pipeline.hset(hash_key, mapping=dict[Any, Any](texts))
                pipeline.expire(hash_key, STAGED_TTL_S)
        with redis_faults():
            added = await pipeline.execute()
        return Staged(*map(int, added[::2]))

    async def unstage(self, tag: str, *, epoch: int) -> None:
        """Forget what was put aside for this epoch."""
        with redis_faults():
            await self._redis.unlink(staged_key(tag, epoch), staged_past_key(tag, epoch))

    async def unstaged(self, tag: str, *, epoch: int) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Yield live holds that are left of before and that were not staged, some at a time.

        Args:
            tag: of the bucket, or the sku of a sale that has one only.
            epoch: that holds were staged for.

        Yields:
            Pairs of user and hold.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        cursor: Any = None
        server: Any = await server_of(self._redis, users_key(tag))
        while cursor != 0:
            with redis_faults():
                cursor, page = await server.hscan(users_key(tag), cursor or 0, count=HOLDS_AT_ONCE)
                live = {user: hold for user, hold in page.items() if hold[:1] != RELEASED.encode()}
                if not live:
                    continue
                staged = await server.hmget(staged_key(tag, epoch), list(live))
                past = await server.hmget(staged_past_key(tag, epoch), list(live))
            yield [
                (user.decode(), hold.decode())
                for (user, hold), *known in zip(live.items(), staged, past, strict=True)
                if hold.partition(b" ")[0] not in b" ".join(filter(None, known))
            ]

    async def resend(
        self, tag: str, holds: Sequence[tuple[str, str]], *, epoch: int, timeout_s: float
    ) -> int:
        """Have holds of a sale that is not loaded sent to Kafka once more, while they stand.

        Args:
            tag: of the bucket, or the sku of a sale that has one only.
            holds: pairs of user and hold.
            epoch: that the sale is rebuilt under.
            timeout_s: how long to wait for Redis.

        Returns:
            How many are in the outbox now; none if the sale has been loaded.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        keys = (
            sale_key(tag),
            stock_key(tag),
            users_key(tag),
            outbox_key(tag),
            backlog_key(tag),
        )
        sent = 0
        for start in range(0, len(holds), HOLDS_AT_ONCE):
            some = holds[start : start + HOLDS_AT_ONCE]
            words = [word for pair in some for word in pair]
            args: list[str | int] = [epoch, request_ids.current(), *words]
            (queued,) = await self._scripts.run(RESEND, keys, args, timeout_s=timeout_s)
            sent += max(0, queued)
        return sent

    async def repair(
        self, request: inventory_pb2.RepairHoldsRequest, *, timeout_s: float, bucket: str = ""
    ) -> inventory_pb2.RepairHoldsResponse:
        """Make holds, outbox and stock agree with the database, in one atomic step.

        Args:
            request: a valid one.
            timeout_s: how long to wait for Redis.
            bucket: tag of the one that all of it is about, if the sale has several.

        Raises:
            SaleNotLoaded: the sale's keys are missing.
            ConsumersLagging: another repair, or another load, came between.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        sku = request.sku
        tasks = [
            *(("write", hold) for hold in request.missing),
            *(("send", hold) for hold in request.unsent),
            *(("reject" if hold.rejected else "release", hold) for hold in request.ended),
        ]
        args: list[str | int] = [
            sku,
            request.epoch,
            request.repairs,
            request.surplus_units,
            int(request.restock),
            request_ids.current(),
        ]
        for task, hold in tasks:
            text = format_hold(hold.order_no, quantity=hold.quantity, request_id=hold.request_id)
            args += [task, hold.user_id, text]
        tag = bucket or sku
        keys = (
            sale_key(tag),
            stock_key(tag),
            users_key(tag),
            outbox_key(tag),
            backlog_key(tag),
        )
        status, *reply = await self._scripts.run(REPAIR, keys, args, timeout_s=timeout_s)
        if status == _NOT_LOADED:
            raise SaleNotLoaded(metadata={"sku": sku})
        if status == _OVERTAKEN:
            raise ConsumersLagging("another repair came between", metadata={"sku": sku})
        return inventory_pb2.RepairHoldsResponse(
            stock_change_units=reply[0],
            order_nos=[
                hold.order_no for (_, hold), done in zip(tasks, reply[1:], strict=True) if done
            ],
        )
