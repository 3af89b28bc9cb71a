"""Redis connections, and its faults as ours."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import hiredis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.settings import RedisSettings

# What redis-py raises when Redis fails it. The last is uvloop's: a write to a connection that the
# other side has closed is no OSError there.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)


# A command's name and its arguments.
Command: TypeAlias = tuple[str | bytes | int, ...]


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator["redis.asyncio.Redis"]:
    """A pool of connections; raw bytes come back; nothing is connected before the first command.

    One retry on a fresh connection, because a pooled one may have died unseen; the scripts are
    idempotent, so a command that ran twice did so once (docs/architecture.md).
    """
    # A command waits for a connection as long as for an answer. The default pool would fail it at
    # once: of 200 orders paid at the same moment, 184 would not have been shown.
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        timeout=settings.redis_timeout_s,
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        max_connections=settings.redis_connections_max,
        retry=Retry(
            NoBackoff(),
            1,
            # The stubs know of Redis' own errors only.
            supported_errors=(redis.exceptions.ConnectionError, RuntimeError),  # type: ignore[arg-type]
        ),
        health_check_interval=30,
    )
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
    except BusyLoadingError as error:
        raise DependencyUnavailable("redis is loading its data") from error
    except REDIS_ERRORS as error:
        if effect_unknown:
            raise OutcomeUnknown("redis did not answer") from error
        raise DependencyUnavailable("redis does not answer") from error


async def send_all(client: "redis.asyncio.Redis", commands: Iterable[Command]) -> list[Any]:
    """Send commands in one go, in their order; for the hot paths.

    As `client.pipeline(transaction=False)` does, which packs each command and times each reply in
    Python: 15 µs a command, where this takes 2. A lost connection is tried once more, so the
    commands must bear being run twice.

    Returns:
        Their replies, raw.

    Raises:
        redis.exceptions.ResponseError: the first of those that Redis has refused; all have run.
        redis.exceptions.RedisError, OSError, TimeoutError: Redis does not answer in time.
    """
    # Its stub has a tuple of one for a tuple of any length.
    packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
    # The time that a single command has, as everywhere: the replies come together.
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
                    # The others' replies are still to be read, else the next caller gets them.
                    refusal = refusal or error
        finally:
            # Broken off while replies were due, it has been disconnected.
            await pool.release(connection)
    if refusal is not None:
        raise refusal
    return replies
