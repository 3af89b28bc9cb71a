"""Redis connections, and its faults as ours."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.settings import RedisSettings

# What redis-py raises when Redis fails it. The last is uvloop's: a write to a connection that the
# other side has closed is no OSError there.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator["redis.asyncio.Redis"]:
    """A pool of connections; raw bytes come back; nothing is connected before the first command.

    One retry on a fresh connection, because a pooled one may have died unseen; the scripts are
    idempotent, so a command that ran twice did so once (docs/architecture.md).
    """
    client = redis.asyncio.Redis.from_url(
        settings.redis_url.get_secret_value(),
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
