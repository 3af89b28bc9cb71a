"""Connections to Redis, and its errors as our faults."""

import asyncio
import math
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import hiredis
import redis.asyncio
import structlog
from redis.asyncio.connection import DefaultParser, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime import keyspace
from seckill.runtime.store_settings import RedisSettings

# What redis-py raises if Redis fails. The last is uvloop's: writing to a connection that the other
# side has closed is not an OSError there.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
# Answers of a server that is not, or not yet, the primary: it has done nothing. Redis 6.2 wraps
# what it says to a script's first write.
_WRONG_SERVER = re.compile(
    r"(?:ERR Error running script .* -)?"
    r"(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MOVED|NOREPLICAS)\b"
)
# A blocking command, here WAIT, has ended because the server has become a replica meanwhile.
_DEMOTED = "UNBLOCKED"
# Shorter than what a health check is given (process.py).
WRITE_PROBE_TIMEOUT_S = 0.8
# A connection is made again at this age, give or take a fifth: its server may have been left behind
# by a failover, and the address lead elsewhere.
CONNECTION_AGE_MAX_S = 30.0
# Until the failover is over, each command gets such an answer.
LOG_INTERVAL_S = 1.0

# A command's name and its arguments.
Command: TypeAlias = tuple[str | bytes | int, ...]
log = structlog.get_logger()


class WrongServer(BusyLoadingError):
    """A server that cannot write now has answered, and has done nothing."""


class _Parser(DefaultParser):  # type: ignore[valid-type, misc]
    """Makes a connection error of what a server says that is not the primary.

    So redis-py closes the connection, and the retries below connect again through the address,
    which leads to the new primary after a failover.
    """

    def __init__(self, socket_read_size: int, *, on_wrong_server: Callable[[str], object]) -> None:
        super().__init__(socket_read_size)
        self._on_wrong_server = on_wrong_server

    def parse_error(self, response: str) -> Exception:
        if _WRONG_SERVER.match(response):
            self._on_wrong_server(response)
            return WrongServer(response)
        if response.startswith(_DEMOTED):
            # No connection error, or the client would send the command again: it has been run.
            self._on_wrong_server(response)
        error: Exception = super().parse_error(response)
        return error


class _Pool(redis.asyncio.BlockingConnectionPool):
    """Replaces all of its connections if one of them leads to the wrong server, or to none.

    Each one is also replaced at its age.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options, parser_class=partial(_Parser, on_wrong_server=self.replace_connections)
        )

        self._logged_s = -math.inf
        # Monotonic time at which a connection is made again.
        self._ends_s: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def replace_connections(self, answer: str) -> None:
        """Connect again before the next command on each connection; `answer` is for the log."""
        if time.monotonic() - self._logged_s > LOG_INTERVAL_S:
            self._logged_s = time.monotonic()
            log.warning("redis connections replaced", error=answer)
        connections: list[Any] = [*self._available_connections, *self._in_use_connections]
        for connection in connections:
            connection.mark_for_reconnect()

    async def ensure_connection(self, connection: Any) -> None:
        # redis-py looks at the mark only when a connection is released.
        now_s = time.monotonic()
        if connection.should_reconnect() or now_s > self._ends_s.get(connection, math.inf):
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            spread = random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            self._ends_s[connection] = now_s + CONNECTION_AGE_MAX_S * spread
        await super().ensure_connection(connection)


class _TlsConnection(SSLConnection):
    """A connection whose context is given: redis-py would read files once, and never again."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls_context


def _address(settings: RedisSettings) -> dict[str, Any]:
    """Where to connect to, and how, as options of a pool; what the address says comes first."""
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        **parse_url(settings.redis_url.get_secret_value()),
    }
    if (context := settings.redis_tls()) is not None:
        options |= {"connection_class": _TlsConnection, "tls_context": context}
    return options


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator["redis.asyncio.Redis"]:
    """Open a pool of connections that return raw bytes; it connects on the first command.

    A failed command is retried once on a fresh connection, because a pooled one may have died
    unnoticed, or lead to a server that has become a replica. The scripts are idempotent, so running
    one twice does no harm (docs/architecture.md).
    """
    # A command waits for a connection as long as for an answer. The default pool would fail it at
    # once: of 200 orders paid at the same moment, 184 were not shown.
    pool = _Pool(
        **_address(settings),
        timeout=settings.redis_timeout_s,
        max_connections=settings.redis_connections_max,
        retry=Retry(
            NoBackoff(),
            1,
            # The stubs allow Redis' own errors only.
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
    except REDIS_ERRORS as error:
        if effect_unknown:
            # Even if a replica has refused it: what became of the attempt before is not told.
            raise OutcomeUnknown("redis did not answer") from error
        if isinstance(error, BusyLoadingError):
            raise DependencyUnavailable("redis is a replica or loads its data") from error
        raise DependencyUnavailable("redis does not answer") from error


async def check_writable(client: "redis.asyncio.Redis") -> None:
    """Raise DependencyUnavailable unless Redis takes writes, or would if it had memory left.

    A full Redis passes: operators must be able to stop a sale then. One that does not answer is
    left with all connections, so that no other command has to find that out.
    """
    try:
        with redis_faults():
            async with asyncio.timeout(WRITE_PROBE_TIMEOUT_S):
                # It does not exist. DEL is refused wherever writes are, except for lack of memory.
                await client.delete(f"{keyspace.prefix}:write-probe")
    except DependencyUnavailable as error:
        if isinstance(error.__cause__, TimeoutError | redis.exceptions.TimeoutError):
            replace_connections(client, "no answer")
        raise


def replace_connections(client: "redis.asyncio.Redis", reason: str) -> None:
    """Have a client of `open_redis` connect again before the next command on each connection.

    Args:
        reason: for the log.
    """
    pool = client.connection_pool
    if isinstance(pool, _Pool):
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
