"""Which node of a Redis Cluster owns which slot, and which keys a command has."""

import asyncio
import itertools
import math
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    ClusterCrossSlotError,
    ClusterError,
    RedisError,
    ResponseError,
)

if TYPE_CHECKING:
    import redis.asyncio

# Nodes are asked which slots they own this often, and at once after an answer that contradicts
# what is known; never more often than after the pause.
REFRESH_INTERVAL_S, REFRESH_PAUSE_S = 10.0, 0.1
# Nodes that have not answered by then are not waited for: the others know as much.
ASK_TIMEOUT_S = 0.5
_KEYLESS = frozenset(
    ("PING", "ECHO", "TIME", "INFO", "CONFIG", "CLUSTER", "CLIENT", "HELLO", "PUBLISH", "WAIT")
)
_ALL_KEYS = frozenset(("MGET", "DEL", "UNLINK", "EXISTS", "RENAME", "WATCH"))
_SCRIPTS = frozenset(("EVAL", "EVALSHA"))
log = structlog.get_logger()


class NoCluster(RedisError):
    """SECKILL_REDIS_CLUSTER is true, and this Redis is no cluster."""


class NoOwner(ClusterError):
    """No node owns a slot, as far as is known."""


def name_of(command: Sequence[Any]) -> str:
    """Return the first word of a command, in capitals."""
    return _text(command[0]).partition(" ")[0].upper()


def _text(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def slot_of(keys: Iterable[str | bytes]) -> int:
    """Return the one slot of these keys. Raises ClusterCrossSlotError if they have several."""
    slots = {key_slot(key.encode() if isinstance(key, str) else key) for key in keys}
    if len(slots) != 1:
        raise ClusterCrossSlotError(f"these keys are in {len(slots)} slots")
    return slots.pop()


def slot_of_command(command: Sequence[Any]) -> int | None:
    """Return the slot of what the mesh sends; None for a command without keys.

    Raises:
        ClusterCrossSlotError: its keys are in several slots.
    """
    name = name_of(command)
    if name in _KEYLESS:
        return None
    if name in _SCRIPTS:
        return slot_of(command[3 : 3 + int(command[2])])
    if name in _ALL_KEYS:
        return slot_of(command[1:])
    if name == "XREADGROUP":
        words = [_text(word).upper() for word in command]
        streams = command[words.index("STREAMS") + 1 :]
        return slot_of(streams[: len(streams) // 2])
    return slot_of(command[1:2])


@cache
def tag_of(slot: int) -> str:
    """Return a hash tag, without its braces, that lands in this slot."""
    for number in itertools.count():  # pragma: no branch - one of 16,384 does
        tag = f"{number:x}"
        if crc_hqx(tag.encode(), 0) % REDIS_CLUSTER_HASH_SLOTS == slot:
            return tag
    raise AssertionError


class SlotMap:
    """The owners of all slots. Asks for them when they are first wanted, and follows changes."""

    def __init__(
        self,
        connect: Callable[[str, int], "redis.asyncio.Redis"],
        startup: Sequence[tuple[str, int]],
    ) -> None:
        """Describe it.

        Args:
            connect: makes a client of the node at host and port; nothing is sent yet.
            startup: host and port of nodes to ask first.
        """
        self._connect = connect
        self._startup = startup
        # By "host:port".
        self._nodes: dict[str, redis.asyncio.Redis] = {}
        self._owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        # What `primaries` returns, until an owner changes.
        self._primaries: Mapping[str, tuple[redis.asyncio.Redis, int]] | None = None
        # Host and port of each primary's replicas, by its "host:port".
        self._replicas: dict[str, list[tuple[str, int]]] = {}
        # Monotonic time at which the nodes were asked that have told all this.
        self.asked_s = -math.inf
        self._is_known = False
        self._asking = asyncio.Lock()
        self._stale = asyncio.Event()

    async def known(self) -> None:
        """Return once owners are known; asks for them only the first time.

        Raises:
            NoCluster: this Redis is none.
            RedisError, OSError, TimeoutError: no node answers.
        """
        if not self._is_known:
            async with self._asking:
                if not self._is_known:
                    await self._refresh()

    def owner(self, slot: int) -> "redis.asyncio.Redis":
        """Return the client of the node that owns a slot. Raises NoOwner."""
        address = self._owners[slot]
        if address is None:
            raise NoOwner(f"no node owns the slot {slot}")
        return self._nodes[address]

    def node(self, host: str, port: int) -> "redis.asyncio.Redis":
        """Return the client of a node, which need not have been known."""
        address = f"{host}:{port}"
        if address not in self._nodes:
            self._nodes[address] = self._connect(host, port)
        return self._nodes[address]

    def primaries(self) -> Mapping[str, tuple["redis.asyncio.Redis", int]]:
        """Return "host:port" → (client, lowest slot) of each node that owns slots."""
        if self._primaries is None:
            lowest: dict[str, int] = {}
            for slot, address in enumerate(self._owners):
                if address is not None:
                    lowest.setdefault(address, slot)
            self._primaries = {
                address: (self._nodes[address], slot) for address, slot in lowest.items()
            }
        return self._primaries

    def address(self, slot: int) -> str | None:
        """Return "host:port" of the node that owns a slot; None if none does."""
        return self._owners[slot]

    def replicas(self, address: str) -> Sequence[tuple[str, int]]:
        """Return host and port of each replica of the primary at "host:port"."""
        return self._replicas.get(address, ())

    def owns(self, address: str, slot: int) -> bool:
        """Return whether the node at "host:port" owns a slot."""
        return self._owners[slot] == address

    def note_moved(self, slot: int, host: str, port: int) -> None:
        """Note what a node has answered: another one owns this slot; it may not know its host."""
        if host:
            self.node(host, port)
            self._owners[slot] = f"{host}:{port}"
            self._primaries = None
        self._stale.set()

    def suspect(self) -> None:
        """Have the nodes asked again soon: one of them does not answer as an owner does."""
        self._stale.set()

    async def follow(self) -> None:
        """Ask again now and then, and whenever something contradicts what is known."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_INTERVAL_S):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
            try:
                async with self._asking:
                    await self._refresh()
            except Exception as error:  # noqa: BLE001 - without this task no failover is seen
                log.warning("owners of slots not looked up", error=repr(error))
                self._stale.set()
            await asyncio.sleep(REFRESH_PAUSE_S)

    async def aclose(self) -> None:
        """Disconnect from all nodes."""
        for client in self._nodes.values():
            await client.aclose()

    async def _refresh(self) -> None:
        for host, port in self._startup:
            self.node(host, port)
        asked_s = time.monotonic()
        view = await self._latest_view()
        owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        replicas: dict[str, list[tuple[str, int]]] = {}
        listed: set[str] = set()
        for first, last, *addresses in view:
            for host, port in addresses:
                self.node(host, port)
                listed.add(f"{host}:{port}")
            owner = f"{addresses[0][0]}:{addresses[0][1]}"
            owners[first : last + 1] = [owner] * (last + 1 - first)
            replicas[owner] = addresses[1:]
        self._owners, self._primaries, self._is_known = owners, None, True
        self._replicas, self.asked_s = replicas, asked_s
        kept = listed | {f"{host}:{port}" for host, port in self._startup}
        for address in self._nodes.keys() - kept:
            # What is under way on it comes to its end.
            await self._nodes.pop(address).connection_pool.disconnect(inuse_connections=False)

    async def _latest_view(self) -> Sequence[Any]:
        """Return what the node says that has seen the latest change, as far as nodes answer.

        A node that was cut off from the others answers from the past.
        """
        tasks = [
            asyncio.create_task(_view(client, address.rpartition(":")[0]))
            for address, client in self._nodes.items()
        ]
        try:
            done, _ = await asyncio.wait(tasks, timeout=ASK_TIMEOUT_S)
        finally:
            # Also if we are cancelled: nobody would hear what becomes of them.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [error for task in done if (error := task.exception())]
        views = [task.result() for task in done if task.exception() is None]
        if not views:
            raise errors[0] if errors else TimeoutError("no node of the cluster answers")
        return max(views, key=lambda view: view[0])[1]


async def _view(
    client: "redis.asyncio.Redis", host: str
) -> tuple[tuple[bool, int], Sequence[Sequence[Any]]]:
    """Return ((whether all is well, epoch), [first slot, last slot, (host, port)…] of each range).

    Args:
        host: of the node, in the place of one that is not told.
    """
    pipeline: Any = client.pipeline(transaction=False)
    # As two words, so that redis-py leaves the replies as they are.
    pipeline.execute_command("CLUSTER", "INFO")
    pipeline.execute_command("CLUSTER", "SLOTS")
    try:
        info, ranges = await pipeline.execute()
    except ResponseError as error:
        if "cluster support disabled" in str(error):
            raise NoCluster(
                "this redis is no cluster: SECKILL_REDIS_CLUSTER must be false"
            ) from error
        raise
    facts = dict(line.partition(":")[::2] for line in info.decode().splitlines())
    rank = facts.get("cluster_state") == "ok", int(facts.get("cluster_current_epoch", 0))
    return rank, [
        (first, last, *((_host(node[0]) or host, int(node[1])) for node in nodes))
        for first, last, *nodes in ranges
    ]


def _host(told: bytes | None) -> str:
    """Return the host as a node tells it; "" if it does not know."""
    return "" if told in (None, b"?") else told.decode()
