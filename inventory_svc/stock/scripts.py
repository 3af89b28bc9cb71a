"""Runs the Lua scripts: by digest, on one connection, knowing whether the script may have run."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

import hiredis
import redis.asyncio
import structlog
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from inventory_svc import metrics
from seckill.errors import DependencyUnavailable, OutcomeUnknown, SeckillError
from seckill.runtime import tracing
from seckill.runtime.redis_client import REDIS_ERRORS
from seckill.runtime.spans import Value

# Redis 6.2 takes a script that starts with "#!" for a syntax error.
FLAGS_SINCE_VERSION = 7
LUA = resources.files("inventory_svc").joinpath("lua")
MARKER_TTL_MS = 60_000
# How long an operator's script waits for its reply at first, then twice as long each time; and the
# pause before it is sent again.
FIRST_TRY_S, REPEAT_S = 1.0, 0.1
log = structlog.get_logger()


class Script:
    """Text of a script, and whether it may run while Redis is over its memory limit."""

    def __init__(self, name: str, *, allow_oom: bool = False) -> None:
        """Read `lua/<name>.lua` of this package.

        Args:
            allow_oom: it may run beyond maxmemory: it grows by next to nothing, and its KEYS[1]
                never expires.
        """
        self.name = name
        self.body = (
            resources.files("inventory_svc").joinpath("lua", f"{name}.lua").read_text("utf-8")
        )
        self._allow_oom = allow_oom

    def text(self, *, server_major: int) -> str:
        """Return what to load on a server of that major version (of Redis, or compatible)."""
        if not self._allow_oom:
            return self.body
        if server_major >= FLAGS_SINCE_VERSION:
            return f"#!lua flags=allow-oom\n{self.body}"
        # Such a server refuses only the first write of a script for want of memory, so that no
        # script is stopped in the middle, and only one that may need some: this one needs none.
        return f"redis.call('PERSIST', KEYS[1])\n{self.body}"


RESERVE = Script("reserve")
RELEASE = Script("release", allow_oom=True)
LOAD = Script("load")
REPAIR = Script("repair")
RESEND = Script("resend")
REMOVE = Script("remove", allow_oom=True)
DISCARD = Script("discard", allow_oom=True)
SYNC = Script("sync", allow_oom=True)
LEND = Script("lend", allow_oom=True)
TAKE = Script("take", allow_oom=True)
SETTLE = Script("settle", allow_oom=True)
BAR = Script("bar", allow_oom=True)
UPDATE_SALE = Script("update_sale", allow_oom=True)
ENABLE_KILL_SWITCH = Script("kill_switch", allow_oom=True)


class ScriptRefused(DependencyUnavailable):
    """Redis has refused a script, and nothing was written: it is full, or cannot save its data."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How many replicas of Redis must have a write before it counts.

    Attributes:
        replicas: at least so many; 0 counts it at once.
        timeout_ms: how long to wait for them.
    """

    replicas: int = 0
    timeout_ms: int = 1


AT_ONCE = Confirmation()


class Guard(Protocol):
    """Decides whether the server at the other end of a connection may promise anything."""

    async def admit(self, connection: Any) -> str:
        """Return the server's name. Raises DependencyUnavailable: it may not."""

    def require(self, server: str) -> None:
        """Raise OutcomeUnknown if a server that was admitted may not any more."""


class _Unguarded:
    async def admit(self, connection: Any) -> str:  # noqa: ARG002 - the contract of Guard
        return ""

    def require(self, server: str) -> None:
        pass


UNGUARDED: Guard = _Unguarded()


class ScriptRunner:
    """Runs scripts on connections of a pool.

    The commands are sent by hand instead of by `client.evalsha`: the client would retry a lost
    reply unseen, and would not tell a connection that could not be made (nothing has run) from a
    reply that was lost (anything may have).
    """

    def __init__(self, client: "redis.asyncio.Redis", *, guard: Guard = UNGUARDED) -> None:
        """`guard`: asked before a script is run, and before its reply counts."""
        self._guard = guard
        self._pool: Any = client.connection_pool  # redis-py leaves its pool untyped
        self._digests: dict[str, bytes] = {}

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        timeout_s: float,
        confirm: Confirmation = AT_ONCE,
        marker: str = "",
        needs_ack: Callable[[list[Any]], bool] = bool,
        items: int = 0,
    ) -> list[Any]:
        """Run `script`, loading it if the server does not have it.

        Args:
            timeout_s: after this the reply is given up.
            confirm: what replicas must confirm before a reply counts that `needs_ack`; the guard
                must still allow it too.
            marker: key to write when replicas are asked, in the slot of `keys`; "" if the script
                has always written.
            items: how many things it decides, for its span; 0 if it is not about a number.

        Returns:
            The script's reply; strings as bytes.

        Raises:
            DependencyUnavailable: Redis cannot be reached or refuses, or the guard: nothing was
                written.
            OutcomeUnknown: the reply was lost, the script may have run; or it has run, and too few
                replicas have confirmed it, or the guard refuses by now.
        """
        if tracing.current() is None:
            return await self._run(script, keys, args, timeout_s, confirm, marker, needs_ack)
        with tracing.step(f"EVALSHA {script.name}", "client", self._described(script, items)):
            return await self._run(script, keys, args, timeout_s, confirm, marker, needs_ack)

    def _described(self, script: Script, items: int) -> dict[str, Value]:
        """Return what a span says of a run, by OpenTelemetry's conventions for Redis."""
        options = self._pool.connection_kwargs
        attributes: dict[str, Value] = {
            "db.system.name": "redis",
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": script.name,
            "db.namespace": str(options.get("db") or 0),
        }
        if items:
            attributes["db.operation.batch.size"] = items
        if "host" in options:
            attributes["server.address"] = str(options["host"])
            attributes["server.port"] = int(options.get("port") or 6379)
        return attributes

    async def _run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        timeout_s: float,
        confirm: Confirmation,
        marker: str,
        needs_ack: Callable[[list[Any]], bool],
    ) -> list[Any]:
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._pool.get_connection()
                try:
                    server = await self._guard.admit(connection)
                    sent = True
                    reply = await self._evaluate(connection, script, keys, args)
                    if confirm.replicas and needs_ack(reply):
                        await await_replicas(connection, confirm, marker)
                    if needs_ack(reply):
                        self._guard.require(server)
                    return reply
                finally:
                    # Cancelled or timed out while a reply was due, it has been disconnected, so
                    # that no caller reads another's reply.
                    await self._pool.release(connection)
        except ResponseError as error:
            # The scripts read before they write, and Redis refuses the first write or none.
            log.warning("redis refused a script", script=script.name, error=str(error))
            raise ScriptRefused("redis refuses the script") from error
        except REDIS_ERRORS as error:
            if sent and not isinstance(error, BusyLoadingError):
                raise OutcomeUnknown("redis did not answer") from error
            raise DependencyUnavailable("redis does not answer") from error

    async def run_for_operator(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        timeout_s: float,
        confirm: Confirmation = AT_ONCE,
    ) -> list[Any]:
        """Run a script that may be repeated until its reply is there, for `timeout_s` at most.

        An operator who stops something waits rather than being told that nothing is known.

        Raises:
            ScriptRefused: Redis does not take it.
            DependencyUnavailable, OutcomeUnknown: as `run`, once the time is over.
        """
        last: SeckillError = OutcomeUnknown("redis did not answer")
        # A silent connection is given up soon, and a slow answer awaited in the end.
        try_s = FIRST_TRY_S
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self.run(script, keys, args, timeout_s=try_s, confirm=confirm)
                    except ScriptRefused:
                        raise
                    except (DependencyUnavailable, OutcomeUnknown) as error:
                        last = error
                        log.warning("script repeated", script=script.name, error=str(error))
                    await asyncio.sleep(REPEAT_S)
                    try_s *= 2
        except TimeoutError as error:
            raise last from error

    async def _evaluate(
        self, connection: Any, script: Script, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any]:
        digest = self._digests.get(script.name)
        if digest is not None:
            try:
                return await evalsha(connection, digest, keys, args)
            except NoScriptError:
                log.info("script reloaded", script=script.name)
        text, self._digests[script.name] = await load_into(connection, script)
        # By its text: another SCRIPT FLUSH may have come meanwhile.
        reply: list[Any] = await call(connection, "EVAL", text, len(keys), *keys, *args)
        return reply


async def evalsha(
    connection: Any, digest: bytes, keys: Sequence[str], args: Sequence[str | int]
) -> list[Any]:
    """Run a script that is loaded."""
    reply: list[Any] = await call(connection, "EVALSHA", digest, len(keys), *keys, *args)
    return reply


async def call(connection: Any, *command: Any) -> Any:
    """Send a command, and return its raw reply."""
    # redis-py's asyncio connection packs in Python: 2 µs more an attempt than hiredis does.
    await connection.send_packed_command(hiredis.pack_command(command))
    # `run` limits the whole of it: a socket's own limit would end what an operator waits for.
    return await connection.read_response(timeout=math.inf)


async def await_replicas(connection: Any, confirm: Confirmation, marker: str) -> None:
    """Wait until enough replicas have all that was written before.

    min-replicas-to-write does not do: it looks at the past, and what it lets through is lost with
    the primary. WAIT is the only signal. It concerns the last write of its own connection, which
    an answer given again has not made: hence the marker.
    """
    try:
        if marker:
            await call(connection, "SET", marker, "", "PX", MARKER_TTL_MS)
        confirmed: int = await call(connection, "WAIT", confirm.replicas, confirm.timeout_ms)
    except RedisError as error:
        # Also what WrongServer says: the script has run.
        raise OutcomeUnknown("redis does not say what its replicas have") from error
    if confirmed < confirm.replicas:
        metrics.RESERVE_UNCONFIRMED_BATCHES_TOTAL.inc()
        raise OutcomeUnknown(f"{confirmed} of {confirm.replicas} replicas have confirmed")


async def load_into(connection: Any, script: Script) -> tuple[str, bytes]:
    """Load a script; return (its text for this server, the digest under which it is loaded)."""
    info: Any = await call(connection, "INFO", "server")
    text = info.decode() if isinstance(info, bytes) else str(info)
    facts = dict(line.partition(":")[::2] for line in text.splitlines())
    major = int(facts["redis_version"].partition(".")[0])
    text = script.text(server_major=major)
    return text, await call(connection, "SCRIPT", "LOAD", text)
