"""Runs the Lua scripts in a Redis Cluster: on the node that owns the slot of their keys."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    MovedError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)

from inventory_svc.stock.scripts import (
    UNGUARDED,
    Confirmation,
    Guard,
    Script,
    ScriptRefused,
    ScriptRunner,
    await_replicas,
    call,
    evalsha,
    load_into,
)
from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime.redis_client import REDIS_ERRORS
from seckill.runtime.redis_cluster import REDIRECTS, TRY_AGAIN_S, ClusterRedis
from seckill.runtime.redis_slots import slot_of
from seckill.runtime.spans import Value

log = structlog.get_logger()


def runner_of(client: "redis.asyncio.Redis", *, guard: Guard = UNGUARDED) -> ScriptRunner:
    """Return what runs scripts with this client.

    Args:
        guard: asked before a script is run, and before its reply counts.
    """
    if isinstance(client, ClusterRedis):
        return ClusterScriptRunner(client, guard=guard)
    return ScriptRunner(client, guard=guard)


class _Run:
    """A run of a script, over all the nodes that it is sent to.

    Attributes:
        is_sent: whether a node may be running it, or has run it.
        asked: the node that is asked although it does not own the slot yet.
    """

    def __init__(self) -> None:
        self.is_sent = False
        self.asked: redis.asyncio.Redis | None = None
        self.redirects = 0


class ClusterScriptRunner(ScriptRunner):
    """Follows slots that move: a node that does not own one has done nothing.

    While some of a script's keys are with one node and some with another, none can run it: it is
    sent again until the time is over.
    """

    def __init__(self, client: ClusterRedis, *, guard: Guard = UNGUARDED) -> None:
        super().__init__(client, guard=guard)
        self._cluster = client

    def _described(self, script: Script, items: int) -> dict[str, Value]:
        attributes = super()._described(script, items)
        # Of a node that need not be the one that runs it.
        return {key: value for key, value in attributes.items() if not key.startswith("server.")}

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
        slot_of([*keys, marker] if marker else keys)  # raises unless it is one
        run = _Run()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    node = run.asked or await self._cluster.server_of(*keys)
                    try:
                        return await self._try(
                            node, run, script, keys, args, confirm, marker, needs_ack
                        )
                    except REDIRECTS as error:
                        run.is_sent = False
                        run.asked = self._node_named_in(error)
                        run.redirects += 1
                        if run.redirects > 1 or isinstance(error, TryAgainError):
                            await asyncio.sleep(TRY_AGAIN_S)
        except ResponseError as error:
            # The scripts read before they write, and Redis refuses the first write or none.
            log.warning("redis refused a script", script=script.name, error=str(error))
            raise ScriptRefused("redis refuses the script") from error
        except REDIS_ERRORS as error:
            self._cluster.slots.suspect()
            if run.is_sent and not isinstance(error, BusyLoadingError):
                raise OutcomeUnknown("redis did not answer") from error
            raise DependencyUnavailable("redis does not answer") from error

    async def _try(
        self,
        node: "redis.asyncio.Redis",
        run: "_Run",
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        confirm: Confirmation,
        marker: str,
        needs_ack: Callable[[list[Any]], bool],
    ) -> list[Any]:
        """Run it on one node, from the question who that is to the word of its replicas."""
        pool: Any = node.connection_pool  # redis-py leaves its pool untyped
        connection = await pool.get_connection()
        try:
            server = await self._guard.admit(connection)
            run.is_sent = True
            if run.asked is None:
                reply = await self._evaluate(connection, script, keys, args)
            else:
                reply = await self._evaluate_asked(connection, script, keys, args)
            if needs_ack(reply):
                if confirm.replicas:
                    if run.asked is not None and marker:
                        await call(connection, "ASKING")
                    await await_replicas(connection, confirm, marker)
                self._guard.require(server)
            return reply
        finally:
            # Cancelled or timed out while a reply was due, it has been disconnected.
            await pool.release(connection)

    def _node_named_in(self, error: ResponseError) -> "redis.asyncio.Redis | None":
        """Return the node that has the keys already; None if the owner is to be asked."""
        if isinstance(error, AskError) and not isinstance(error, MovedError):
            return self._cluster.slots.node(error.host, error.port)
        return None

    async def _evaluate_asked(
        self, connection: Any, script: Script, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any]:
        """Run it where its keys have been moved to; ASKING counts for the next command alone."""
        digest = self._digests.get(script.name)
        if digest is not None:
            await call(connection, "ASKING")
            try:
                return await evalsha(connection, digest, keys, args)
            except NoScriptError:
                log.info("script reloaded", script=script.name)
        text, self._digests[script.name] = await load_into(connection, script)
        await call(connection, "ASKING")
        reply: list[Any] = await call(connection, "EVAL", text, len(keys), *keys, *args)
        return reply
