"""Runs the Lua scripts: by digest, on one connection, knowing whether the script may have run."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import hiredis
import redis.asyncio
import structlog
from redis.exceptions import BusyLoadingError, NoScriptError, ResponseError

from inventory_svc import metrics
from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.redis_client import REDIS_ERRORS

# Redis 6.2 takes a script that begins with "#!" for a syntax error.
FLAGS_SINCE_VERSION = 7
MARKER_TTL_MS = 60_000
log = structlog.get_logger()


class Script:
    """Text of a script, and the flags it is loaded with where the server knows flags."""

    def __init__(self, name: str, *, flags: str = "") -> None:
        """Read `lua/<name>.lua` of this package; `flags`: e.g. "allow-oom"."""
        self.name = name
        self.body = resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
        self._flags = flags

    def text(self, *, server_major: int) -> str:
        """What to load on a server of that major version (of Redis, or compatible with)."""
        if self._flags and server_major >= FLAGS_SINCE_VERSION:
            return f"#!lua flags={self._flags}\n{self.body}"
        return self.body


RESERVE = Script("reserve")
RELEASE = Script("release", flags="allow-oom")
LOAD = Script("load")
REPAIR = Script("repair")


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


class ScriptRunner:
    """Runs scripts on connections of a pool.

    The commands are sent by hand instead of by `client.evalsha`: the client would retry a lost
    reply unseen, and would not tell a connection that could not be made, where nothing has run,
    from a reply that was lost, where anything may have.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
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
        promises: Callable[[list[Any]], bool] = bool,
    ) -> list[Any]:
        """Run `script`, loading it where the server does not have it.

        Args:
            timeout_s: after this the reply is given up.
            confirm: what replicas must confirm, where the reply `promises` something.
            marker: key to write where replicas are asked, in the slot of `keys`.

        Returns:
            The script's reply; strings as bytes.

        Raises:
            DependencyUnavailable: Redis cannot be reached or refuses: nothing was written.
            OutcomeUnknown: the reply was lost, the script may have run; or it has run, and too few
                replicas have confirmed it.
        """
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._pool.get_connection()
                try:
                    sent = True
                    reply = await self._evaluate(connection, script, keys, args)
                    if confirm.replicas and promises(reply):
                        await _confirm(connection, confirm, marker)
                    return reply
                finally:
                    # Cancelled or timed out while a reply was due, it has been disconnected, so
                    # that nobody reads another's reply.
                    await self._pool.release(connection)
        except ResponseError as error:
            # The scripts read before they write, and Redis refuses the first write or none.
            log.warning("redis refused a script", script=script.name, error=str(error))
            raise DependencyUnavailable("redis refuses the script") from error
        except REDIS_ERRORS as error:
            if sent and not isinstance(error, BusyLoadingError):
                raise OutcomeUnknown("redis did not answer") from error
            raise DependencyUnavailable("redis does not answer") from error

    async def _evaluate(
        self, connection: Any, script: Script, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any]:
        digest = self._digests.get(script.name)
        if digest is not None:
            try:
                return await _evalsha(connection, digest, keys, args)
            except NoScriptError:
                log.info("script is loaded again", script=script.name)
        text, self._digests[script.name] = await _load(connection, script)
        # By its text: another SCRIPT FLUSH may have come meanwhile.
        reply: list[Any] = await _call(connection, "EVAL", text, len(keys), *keys, *args)
        return reply


async def _evalsha(
    connection: Any, digest: bytes, keys: Sequence[str], args: Sequence[str | int]
) -> list[Any]:
    reply: list[Any] = await _call(connection, "EVALSHA", digest, len(keys), *keys, *args)
    return reply


async def _call(connection: Any, *command: Any) -> Any:
    # redis-py's asyncio connection packs in Python: 2 µs more an attempt than hiredis does.
    await connection.send_packed_command(hiredis.pack_command(command))
    return await connection.read_response()


async def _confirm(connection: Any, confirm: Confirmation, marker: str) -> None:
    """Wait until enough replicas have all that was written before.

    min-replicas-to-write does not do: it looks at the past, and what it lets through is lost with
    the primary. WAIT is the only signal. It concerns the last write of its own connection, which
    an answer given again has not made: hence the marker.
    """
    try:
        await _call(connection, "SET", marker, "", "PX", MARKER_TTL_MS)
        confirmed: int = await _call(connection, "WAIT", confirm.replicas, confirm.timeout_ms)
    except ResponseError as error:
        raise OutcomeUnknown("redis does not say what its replicas have") from error
    if confirmed < confirm.replicas:
        metrics.unconfirmed_batches.inc()
        raise OutcomeUnknown(f"{confirmed} of {confirm.replicas} replicas have confirmed")


async def _load(connection: Any, script: Script) -> tuple[str, bytes]:
    """(text of the script for this server, digest under which it is known there now)."""
    info: Any = await _call(connection, "INFO", "server")
    text = info.decode() if isinstance(info, bytes) else str(info)
    facts = dict(line.partition(":")[::2] for line in text.splitlines())
    major = int(facts["redis_version"].partition(".")[0])
    text = script.text(server_major=major)
    return text, await _call(connection, "SCRIPT", "LOAD", text)
