"""Connections to Redis, and its errors as our faults."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import hiredis
import redis.asyncio
from redis.exceptions import (
    BusyLoadingError,
    ClusterCrossSlotError,
    RedisError,
    ResponseError,
)

from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime import keyspace
from seckill.runtime.redis_cluster import (
    REDIRECTS,
    ClusterRedis,
    open_cluster,
    raise_first,
)
from seckill.runtime.redis_pool import Pool, address_options, pool_options
from seckill.runtime.redis_slots import NoCluster
from seckill.runtime.store_settings import RedisSettings

# What redis-py raises if Redis fails. The last is uvloop's: writing to a connection that the other
# side has closed is not an OSError there.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
# Shorter than what a health check is given (process.py).
WRITE_PROBE_TIMEOUT_S = 0.8
NOT_SINGLE = "this redis is a node of a cluster: SECKILL_REDIS_CLUSTER must be true"
# A command's name and its arguments.
Command: TypeAlias = tuple[str | bytes | int, ...]


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator["redis.asyncio.Redis"]:
    """Open a pool of connections that return raw bytes; it connects on the first command.

    With SECKILL_REDIS_CLUSTER it is a ClusterRedis, with a pool for each node.

    A failed command is retried once on a fresh connection, because a pooled one may have died
    unnoticed, or lead to a server that has become a replica. The scripts are idempotent, so running
    one twice does no harm (docs/architecture.md).
    """
    if settings.redis_cluster:
        async with open_cluster(settings) as cluster:
            yield cluster
        return
    address = settings.redis_url.get_secret_value()
    pool = Pool(**address_options(settings, address), **pool_options(settings))
    client = redis.asyncio.Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def redis_faults(*, effect_unknown: bool = False) -> Iterator[None]:
    """Turn what redis-py raises into DependencyUnavailable, or OutcomeUnknown for a write."""
    try:
        yield
    except REDIS_ERRORS as error:
        if effect_unknown:
            # Even if a replica has refused it: what became of the attempt before is not told.
            raise OutcomeUnknown("redis did not answer") from error
        if isinstance(error, BusyLoadingError):
            if str(error).startswith("MOVED"):
                raise DependencyUnavailable(NOT_SINGLE) from error
            raise DependencyUnavailable("redis is a replica or loads its data") from error
        if isinstance(error, NoCluster):
            raise DependencyUnavailable(str(error)) from error
        if isinstance(error, ClusterCrossSlotError):
            # Of a cluster of one node: ours never names keys of two slots to another.
            raise DependencyUnavailable(NOT_SINGLE) from ConnectionRefusedError(str(error))
        if isinstance(error, REDIRECTS):
            # It is no refusal: the next try finds the owner.
            cause = redis.exceptions.ConnectionError(str(error))
            raise DependencyUnavailable("a slot of redis moves to another node") from cause
        raise DependencyUnavailable("redis does not answer") from error


async def check_writable(client: "redis.asyncio.Redis") -> None:
    """Raise DependencyUnavailable unless Redis takes writes, or would if it had memory left.

    A full Redis passes: operators must be able to stop a sale then. One that does not answer is
    left with all connections, so that no other command has to find that out.
    """
    try:
        with redis_faults():
            async with asyncio.timeout(WRITE_PROBE_TIMEOUT_S):
                if isinstance(client, ClusterRedis):
                    await client.check_writable()
                    return
                # It does not exist. DEL is refused wherever writes are, except for lack of memory.
                await client.delete(f"{keyspace.prefix}:write-probe")
                await _require_single(client)
    except DependencyUnavailable as error:
        if isinstance(error.__cause__, TimeoutError | redis.exceptions.TimeoutError):
            replace_connections(client, "no answer")
        raise


async def _require_single(client: "redis.asyncio.Redis") -> None:
    """Raise DependencyUnavailable if the server is a node of a cluster; asked until it was not."""
    pool = client.connection_pool
    if not isinstance(pool, Pool) or pool.is_single:
        return
    untyped: Any = client
    try:
        facts: Any = await untyped.execute_command("HELLO")
    except ResponseError:
        facts = ()  # by a proxy, or before Redis 6: it cannot be told
    pairs = facts.items() if isinstance(facts, dict) else zip(facts[::2], facts[1::2], strict=False)
    if any(name in (b"mode", "mode") and word in (b"cluster", "cluster") for name, word in pairs):
        raise DependencyUnavailable(NOT_SINGLE)
    pool.is_single = True


async def server_of(client: "redis.asyncio.Redis", *keys: str) -> "redis.asyncio.Redis":
    """Return the client of the one server that has these keys: for transactions, and for WAIT.

    Raises:
        RedisError, OSError, TimeoutError: a cluster does not tell who owns their slot.
    """
    return await client.server_of(*keys) if isinstance(client, ClusterRedis) else client


async def servers_of(client: "redis.asyncio.Redis") -> Sequence["redis.asyncio.Redis"]:
    """Return the clients of all servers that have keys; raises as `server_of`."""
    if not isinstance(client, ClusterRedis):
        return [client]
    return [node for node, _ in (await client.primaries()).values()]


def is_unreachable(reply: Any) -> bool:
    """Return whether a reply of a pipeline tells that the node of its key did not answer."""
    return isinstance(reply, Exception) and (
        isinstance(reply, REDIRECTS) or not isinstance(reply, ResponseError)
    )


async def keys_by_server(client: "redis.asyncio.Redis", keys: Sequence[str]) -> list[Sequence[str]]:
    """Return the keys that each server has, in their order; raises as `server_of`."""
    if not isinstance(client, ClusterRedis):
        return [keys]
    groups: dict[redis.asyncio.Redis, list[str]] = {}
    for key in keys:
        groups.setdefault(await client.server_of(key), []).append(key)
    return list(groups.values())


def replace_connections(client: "redis.asyncio.Redis", reason: str) -> None:
    """Have a client of `open_redis` connect again before the next command on each connection.

    Args:
        reason: for the log.
    """
    pool = client.connection_pool
    if isinstance(pool, Pool):
        pool.replace_connections(reason)


async def send_all(client: "redis.asyncio.Redis", commands: Iterable[Command]) -> list[Any]:
    """Send commands at once, in order; for the hot paths.

    `client.pipeline(transaction=False)` does the same, but packs each command and times each reply
    in Python: 15 µs a command instead of 2. After a lost connection all are sent once more, so the
    commands must be idempotent.

    Returns:
        Their raw replies.

    Raises:
        redis.exceptions.ResponseError: Redis refused a command, the first of them; all have run.
        redis.exceptions.RedisError, OSError, TimeoutError: Redis does not answer in time.
    """
    if isinstance(client, ClusterRedis):
        replies = await client.run_all(commands)
        raise_first(replies)
        return replies
    # Its stub has a tuple of one for a tuple of any length.
    packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
    # As long as a single command may take: the replies come together.
    timeout_s = client.connection_pool.connection_kwargs.get("socket_timeout")
    try:
        return await _send_packed(client, packed, timeout_s=timeout_s)
    except (redis.exceptions.ConnectionError, RuntimeError):
        return await _send_packed(client, packed, timeout_s=timeout_s)


async def _send_packed(
    client: "redis.asyncio.Redis", packed: list[bytes], *, timeout_s: float | None
) -> list[Any]:
    pool: Any = client.connection_pool  # redis-py leaves it untyped
    replies: list[Any] = []
    refusal: ResponseError | None = None
    async with asyncio.timeout(timeout_s):
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(b"".join(packed), check_health=False)
            for _ in packed:
                try:
                    replies.append(await connection.read_response(timeout=math.inf))
                except ResponseError as error:
                    # Read the other replies too, or the next caller would get them.
                    refusal = refusal or error
        finally:
            # If replies were still due, redis-py has closed the connection.
            await pool.release(connection)
    if refusal is not None:
        raise refusal
    return replies
