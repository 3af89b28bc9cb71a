"""A client of a Redis Cluster: a client and a pool for each node, and commands sent to the owner.

Why not redis-py's own: docs/adr/0042.
"""

import asyncio
import math
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar

import hiredis
import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import (
    AskError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from seckill.runtime import keyspace
from seckill.runtime.redis_pool import Parser, Pool, address_options, pool_options
from seckill.runtime.redis_slots import NoOwner, SlotMap, name_of, slot_of, slot_of_command, tag_of
from seckill.runtime.store_settings import RedisSettings

# Pause before a command is sent again whose slot is on its way to another node.
TRY_AGAIN_S = 0.01
# Answers of a node that has done nothing: another one owns the slot, or will soon.
REDIRECTS = (MovedError, AskError, TryAgainError)
_ASKING: bytes = hiredis.pack_command(("ASKING",))
_MOVED = re.compile(r"MOVED (\d+) (.*):(\d+)")


class ClusterParser(Parser):
    """Tells of slots that have moved, whichever command learns of it."""

    # A node that does not own a slot is no wrong server.
    wrong_server: ClassVar[re.Pattern[str]] = re.compile(
        r"(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b"
    )

    def __init__(
        self,
        socket_read_size: int,
        *,
        on_wrong_server: Callable[[str], object],
        on_moved: Callable[[int, str, int], object],
    ) -> None:
        super().__init__(socket_read_size, on_wrong_server=on_wrong_server)
        self._on_moved = on_moved

    def parse_error(self, response: str) -> Exception:
        moved = _MOVED.match(response)
        if moved is not None:
            self._on_moved(int(moved[1]), moved[2], int(moved[3]))
        return super().parse_error(response)


class _NodePool(Pool):
    """Has the owners of slots looked up again when its node does not answer as one does."""

    def __init__(self, slots: SlotMap, **options: Any) -> None:
        super().__init__(parser=partial(ClusterParser, on_moved=slots.note_moved), **options)
        self._slots = slots

    def replace_connections(self, answer: str) -> None:
        super().replace_connections(answer)
        self._slots.suspect()


class _Sending:
    """A command under way.

    Attributes:
        slot: None if it has no keys.
        asked: node that has the key already although it does not own the slot yet.
    """

    __slots__ = ("asked", "index", "packed", "slot")

    def __init__(self, index: int, packed: bytes, slot: int | None) -> None:
        self.index = index
        self.packed = packed
        self.slot = slot
        self.asked: redis.asyncio.Redis | None = None


class ClusterRedis(redis.asyncio.Redis):
    """Sends each command to the node that owns the slot of its keys.

    Commands of one call to one node travel together, in order. Transactions, and whatever else
    has to happen on one server, go by `server_of`.
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Describe it; it connects on the first command."""
        addresses = settings.redis_addresses()
        self._settings = settings
        self._timeout_s = settings.redis_timeout_s
        options = address_options(settings, addresses[0])
        startup = [address_options(settings, address) for address in addresses]
        # Of a node; only to look at: commands go by the pools of their nodes.
        super().__init__(connection_pool=Pool(**options, **pool_options(settings)))
        nodes = [
            (node.get("host") or "localhost", int(node.get("port") or 6379)) for node in startup
        ]
        self.slots = SlotMap(self._connect, nodes)

    def _connect(self, host: str, port: int) -> "redis.asyncio.Redis":
        options = address_options(self._settings, self._settings.redis_addresses()[0])
        options |= {"host": host, "port": port}
        pool = _NodePool(self.slots, **options, **pool_options(self._settings))
        return redis.asyncio.Redis.from_pool(pool)

    async def server_of(self, *keys: str) -> "redis.asyncio.Redis":
        """Return the client of the node that owns the one slot of these keys."""
        await self.slots.known()
        return self.slots.owner(slot_of(keys))

    async def primaries(self) -> Mapping[str, tuple["redis.asyncio.Redis", int]]:
        """Return "host:port" → (client, lowest slot) of each node that owns slots."""
        await self.slots.known()
        return self.slots.primaries()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Disconnect from all nodes."""
        await self.slots.aclose()
        await super().aclose(close_connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to the owner of its slot; without keys, to any primary."""
        (reply,) = await self.run_all([args])
        if isinstance(reply, Exception):
            raise reply
        return self.parsed(args, reply, options)

    def parsed(self, command: Sequence[Any], reply: Any, options: dict[str, Any]) -> Any:
        """Return a reply as redis-py returns it for this command."""
        options.pop("keys", None)
        callback = self.response_callbacks.get(command[0])
        return callback(reply, **options) if callback else reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":
        """Return a pipeline over any nodes; transactions are made on the node of `server_of`."""
        if transaction:
            raise RedisClusterException("a transaction is of one server: see server_of")
        return ClusterPipeline(self, shard_hint)

    async def mget(self, keys: Any, *args: Any) -> list[Any]:
        """Return the values of keys in any slots."""
        names = [keys, *args] if isinstance(keys, str | bytes) else [*keys, *args]
        replies = await self.run_all([("GET", name) for name in names])
        raise_first(replies)
        return replies

    async def run_all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send commands, those of one node together and in order; nodes are asked side by side.

        What a node answers that does not own the slot is followed, for as long as one command may
        take. After a lost connection commands are sent once more: they must be idempotent.

        Returns:
            Their raw replies, with an exception in the place of each that has none.

        Raises:
            RedisError, OSError, TimeoutError: the slots' owners are not known.
        """
        await self.slots.known()
        ends_s = time.monotonic() + self._timeout_s
        replies: list[Any] = []
        left: list[_Sending] = []
        for at, command in enumerate(commands):
            replies.append(None)
            if name_of(command) == "SCRIPT":
                replies[at] = await self._on_each_primary(_pack(command))
            else:
                left.append(_Sending(at, _pack(command), slot_of_command(command)))
        _place_keyless(left)
        is_first = True
        while left:
            left = await self._round(left, replies)
            is_late = time.monotonic() >= ends_s
            if left and is_late:
                break
            if left and not (is_first and _all_moved(left, replies)):
                await asyncio.sleep(TRY_AGAIN_S)
            is_first = False
        return replies

    async def check_writable(self) -> None:
        """Raise what a primary answers unless one of them takes writes, full of data or not."""
        primaries = (await self.primaries()).values()
        # In a slot of each one's own; DEL of what does not exist is refused wherever writes are.
        replies = await self.run_all(
            [("DEL", f"{keyspace.prefix}:write-probe:{{{tag_of(slot)}}}") for _, slot in primaries]
        )
        if all(isinstance(reply, Exception) for reply in replies):
            raise_first(replies)

    async def _round(self, left: Sequence[_Sending], replies: list[Any]) -> list[_Sending]:
        """Send all of these once; return those that have to be sent elsewhere, or again."""
        by_node: dict[redis.asyncio.Redis, list[_Sending]] = defaultdict(list)
        for one in left:
            try:
                by_node[one.asked or self._owner(one.slot)].append(one)
            except NoOwner as error:
                replies[one.index] = error
                self.slots.suspect()
        await asyncio.gather(*(self._send(node, group, replies) for node, group in by_node.items()))
        sent = (one for group in by_node.values() for one in group)
        return [one for one in sent if self._is_redirected(one, replies[one.index])]

    def _owner(self, slot: int | None) -> "redis.asyncio.Redis":
        if slot is None:
            return next(iter(self.slots.primaries().values()))[0]
        return self.slots.owner(slot)

    def _is_redirected(self, one: _Sending, reply: Any) -> bool:
        one.asked = None
        if isinstance(reply, AskError) and not isinstance(reply, MovedError):
            one.asked = self.slots.node(reply.host, reply.port)
        return isinstance(reply, REDIRECTS)

    async def _send(
        self, node: "redis.asyncio.Redis", group: Sequence[_Sending], replies: list[Any]
    ) -> None:
        """Send commands to one node; if it does not answer all of them, none has an answer."""
        try:
            with suppress(redis.exceptions.ConnectionError, RuntimeError):
                return await self._exchange(node, group, replies)
            await self._exchange(node, group, replies)
        except (RedisError, OSError, TimeoutError, RuntimeError) as error:
            self.slots.suspect()
            for one in group:
                replies[one.index] = error

    async def _exchange(
        self, node: "redis.asyncio.Redis", group: Sequence[_Sending], replies: list[Any]
    ) -> None:
        pool: Any = node.connection_pool  # redis-py leaves it untyped
        words = [_ASKING + one.packed if one.asked else one.packed for one in group]
        async with asyncio.timeout(self._timeout_s):
            connection = await pool.get_connection()
            try:
                await connection.send_packed_command(b"".join(words), check_health=False)
                for one in group:
                    if one.asked:
                        await connection.read_response(timeout=math.inf)
                    try:
                        replies[one.index] = await connection.read_response(timeout=math.inf)
                    except ResponseError as error:
                        replies[one.index] = error
            finally:
                # If replies were still due, redis-py has closed the connection.
                await pool.release(connection)

    async def _on_each_primary(self, packed: bytes) -> Any:
        """Have each primary do the same, and return what one of them answers."""
        nodes = [node for node, _ in self.slots.primaries().values()]
        replies: list[Any] = [None] * len(nodes)
        sendings = [_Sending(at, packed, None) for at in range(len(nodes))]
        await asyncio.gather(
            *(self._send(node, [one], replies) for node, one in zip(nodes, sendings, strict=True))
        )
        # Those that do not answer are asked again when their turn comes.
        answers = [reply for reply in replies if not isinstance(reply, Exception)]
        return answers[0] if answers else replies[0]


class ClusterPipeline(Pipeline):
    """Commands that are sent together, to whichever nodes they belong."""

    def __init__(self, cluster: ClusterRedis, shard_hint: str | None) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, False, shard_hint)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them; with `raise_on_error` False, replies may be exceptions of any kind."""
        stack, self.command_stack = self.command_stack, []
        replies = await self._cluster.run_all([command for command, _ in stack])
        if raise_on_error:
            raise_first(replies)
        return [
            reply
            if isinstance(reply, Exception)
            else self._cluster.parsed(command, reply, dict(options))
            for (command, options), reply in zip(stack, replies, strict=True)
        ]


@asynccontextmanager
async def open_cluster(settings: RedisSettings) -> AsyncIterator[ClusterRedis]:
    """Open a client of a cluster, which follows where slots go."""
    cluster = ClusterRedis(settings)
    following = asyncio.create_task(cluster.slots.follow(), name="redis-slots")
    try:
        yield cluster
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cluster.aclose()


def raise_first(replies: Iterable[Any]) -> None:
    """Raise the first reply that is an exception."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def _pack(command: Sequence[Any]) -> bytes:
    # redis-py writes some names as two words in one.
    first = command[0].encode() if isinstance(command[0], str) else command[0]
    packed: bytes = hiredis.pack_command((*first.split(), *command[1:]))
    return packed


def _place_keyless(sendings: Sequence[_Sending]) -> None:
    """Have commands without keys follow the one before them, or else the first one with keys."""
    slot = next((one.slot for one in sendings if one.slot is not None), None)
    for one in sendings:
        slot = one.slot = slot if one.slot is None else one.slot


def _all_moved(sendings: Sequence[_Sending], replies: Sequence[Any]) -> bool:
    return not any(isinstance(replies[one.index], TryAgainError) for one in sendings)
