"""The lease on a Redis primary, checked on each connection where units are promised."""

import math
from typing import Any
from weakref import WeakKeyDictionary

import hiredis
import redis.asyncio
from redis.exceptions import ResponseError

from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime.clock import Clock
from seckill.runtime.redis_client import replace_connections

# Servers of connections that do not say who they are.
UNKNOWN = ""


class StoreLease:
    """Says which server may promise units, from when and until when, by the monotonic clock.

    A process that was frozen finds the lease over when it wakes up: the check compares times, and
    needs nobody to withdraw anything.
    """

    def __init__(self, client: "redis.asyncio.Redis", *, clock: Clock) -> None:
        """Nobody may promise anything before the first grant."""
        self._redis = client
        self._clock = clock
        # Run id of the server that each open connection leads to, by the stream that it writes to:
        # a connection that was lost has another one afterwards.
        self._servers: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._run_id = UNKNOWN
        self._from_s, self._until_s = math.inf, -math.inf
        self._open = False

    @property
    def holds(self) -> bool:
        """Whether some server may promise units now."""
        return self._open or self._from_s <= self._clock.monotonic_s() < self._until_s

    def is_valid_for(self, run_id: str) -> bool:
        """Return whether this server's lease is not over; it need not have started."""
        return run_id == self._run_id and self._clock.monotonic_s() < self._until_s

    def grant(self, run_id: str, *, from_s: float, until_s: float) -> None:
        """Let this server and no other promise units; times by the monotonic clock.

        A lease that it has already does not end earlier than it did.
        """
        if self.is_valid_for(run_id):
            until_s = max(until_s, self._until_s)
        self._run_id, self._from_s, self._until_s = run_id, from_s, until_s
        self._open = False

    def extend(self, *, until_s: float) -> None:
        """Let the lease end later, or never earlier than it did."""
        self._until_s = max(self._until_s, until_s)

    def withdraw(self) -> None:
        """Let no server promise units."""
        self._run_id, self._until_s = UNKNOWN, -math.inf
        self._open = False

    def open(self) -> None:
        """Let every server promise units: servers, or the database, cannot be told apart."""
        self._open = True

    async def admit(self, connection: Any) -> str:
        """Return the run id of the server at the other end, which may promise units now.

        Raises:
            DependencyUnavailable: it may not.
        """
        if self._open:
            return UNKNOWN
        server = self._servers.get(connection._writer)  # noqa: SLF001 - see _servers
        if server is None:
            server = await ask_run_id(connection)
            self._servers[connection._writer] = server  # noqa: SLF001
        if not self.allows(server):
            if server != self._run_id and self.holds:
                # The address leads to several servers: have the next look at where it leads now.
                replace_connections(self._redis, "another server")
            raise unconfirmed()
        return server

    def require(self, server: str) -> None:
        """Raise OutcomeUnknown if the lease of an admitted server is over: a script has run."""
        if not self.allows(server):
            raise no_longer_confirmed()

    def allows(self, server: str) -> bool:
        """Return whether this server may promise units now."""
        return self._open or (server == self._run_id and self.holds)


def unconfirmed() -> DependencyUnavailable:
    """Return the fault of a server that may not promise units."""
    return DependencyUnavailable(
        "this redis may not promise units", metadata={"store": "unconfirmed"}
    )


def no_longer_confirmed() -> OutcomeUnknown:
    """Return the fault of a server that has run a script, and may not promise units by now."""
    return OutcomeUnknown("this redis may not promise units any more")


async def ask_run_id(connection: Any) -> str:
    """Return the run id of the server at the other end; UNKNOWN if it does not tell."""
    # Its stub has a tuple of one for a tuple of any length.
    await connection.send_packed_command(hiredis.pack_command(("INFO", "server")))  # type: ignore[arg-type]
    try:
        reply: Any = await connection.read_response()
    except ResponseError:
        return UNKNOWN
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    facts = dict(line.partition(":")[::2] for line in text.splitlines())
    return facts.get("run_id", UNKNOWN)
