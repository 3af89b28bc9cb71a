"""Connections to one Redis server: made again when they lead to the wrong one, and at their age."""

import math
import random
import re
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import redis.asyncio
import structlog
from redis.asyncio.connection import DefaultParser, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError

from seckill.runtime.store_settings import RedisSettings

# Answers of a server that is not, or not yet, the primary: it has done nothing. Redis 6.2 wraps
# what it says to a script's first write.
WRONG_SERVER = re.compile(
    r"(?:ERR Error running script .* -)?"
    r"(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MOVED|NOREPLICAS)\b"
)
# A blocking command, here WAIT, has ended because the server has become a replica meanwhile.
_DEMOTED = "UNBLOCKED"
# A connection is made again at this age, give or take a fifth: its server may have been left behind
# by a failover, and the address lead elsewhere.
CONNECTION_AGE_MAX_S = 30.0
# Until the failover is over, each command gets such an answer.
LOG_INTERVAL_S = 1.0
log = structlog.get_logger()


class WrongServer(BusyLoadingError):
    """A server that cannot write now has answered, and has done nothing."""


class Parser(DefaultParser):  # type: ignore[valid-type, misc]
    """Makes a connection error of what a server says that is not the primary.

    So redis-py closes the connection, and the retries below connect again through the address,
    which leads to the new primary after a failover.
    """

    wrong_server: ClassVar[re.Pattern[str]] = WRONG_SERVER

    def __init__(self, socket_read_size: int, *, on_wrong_server: Callable[[str], object]) -> None:
        super().__init__(socket_read_size)
        self._on_wrong_server = on_wrong_server

    def parse_error(self, response: str) -> Exception:
        if self.wrong_server.match(response):
            self._on_wrong_server(response)
            return WrongServer(response)
        if response.startswith(_DEMOTED):
            # No connection error, or the client would send the command again: it has been run.
            self._on_wrong_server(response)
        error: Exception = super().parse_error(response)
        return error


class Pool(redis.asyncio.BlockingConnectionPool):
    """Replaces all of its connections if one of them leads to the wrong server, or to none.

    Each one is also replaced at its age.
    """

    def __init__(self, parser: Callable[..., Parser] = Parser, **options: Any) -> None:
        """`parser`: made with the size to read at once and `on_wrong_server`."""
        super().__init__(
            **options, parser_class=partial(parser, on_wrong_server=self.replace_connections)
        )
        # Whether its server was seen to be no node of a cluster.
        self.is_single = False
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


class TlsConnection(SSLConnection):
    """A connection whose context is given: redis-py would read files once, and never again."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls_context


def address_options(settings: RedisSettings, address: str) -> dict[str, Any]:
    """Return how to connect as options of a pool; what the address says comes first."""
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        **parse_url(address),
    }
    if (context := settings.redis_tls()) is not None:
        options |= {"connection_class": TlsConnection, "tls_context": context}
    return options


def pool_options(settings: RedisSettings) -> dict[str, Any]:
    """Return the bounds of a pool.

    A command waits for a connection as long as for an answer. The default pool would fail it at
    once: of 200 orders paid at the same moment, 184 were not shown. It is retried once on a fresh
    connection.
    """
    return {
        "timeout": settings.redis_timeout_s,
        "max_connections": settings.redis_connections_max,
        "retry": Retry(
            NoBackoff(),
            1,
            # The stubs allow Redis' own errors only.
            supported_errors=(redis.exceptions.ConnectionError, RuntimeError),  # type: ignore[arg-type]
        ),
        "health_check_interval": 30,
    }
