"""Fails Redis over to a standby, and back: its address leads to another server meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from campaigns.soak.arena import Arena
from campaigns.soak.redis_servers import DurableValkey
from devstack import StackError
from devstack.ports import LOOPBACK
from inventory_svc.keys import generation_key
from inventory_svc.settings import InventorySettings

STEP_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.05
REDIS = ">redis"
# Nothing listens there.
NOBODY = 1
LEASE_S = InventorySettings.model_fields["inventory_store_lease_s"].default


class RedisFailover:
    """Gives the role of the primary to a standby that has all the data, and takes it back."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        primary = arena.stores.redis.single
        assert primary is not None
        self._primary = primary
        self._standby = DurableValkey(self._primary.directory.parent / "standby")

    async def carry_out(self, lasts_s: float) -> None:
        """Fail over, wait `lasts_s`, and fail back. Connections that are open stay open.

        Raises:
            StackError: a server cannot be started, or does not take its role.
        """
        async with self._servers() as (old, new):
            await self._hand_over(old, to=new, port=self._standby.port)
            await asyncio.sleep(lasts_s)
            await self._hand_over(new, to=old, port=self._primary.port)

    async def leave_behind(self, lasts_s: float, *, link: str) -> None:
        """Fail over, and let the old primary take writes again while `link` still leads to it.

        It takes them for `lasts_s`, once leases on it are over, and forgets them at the fail-back.

        Raises:
            StackError: a server cannot be started, does not take its role, or is not confirmed.
        """
        async with self._servers() as (old, new):
            token = await old.get(generation_key())

            async def is_confirmed() -> bool:
                return bool(await new.get(generation_key()) != token)

            # The other has all writes then, and the old one is a replica of nobody.
            await old.client_pause(int(1_000 * STEP_TIMEOUT_S), all=False)
            await _until(lambda: _has_all(new, old))
            await old.replicaof(LOOPBACK, NOBODY)
            await new.replicaof("NO", "ONE")
            await old.client_unpause()
            self._lead_to(self._standby.port, except_=link)
            await _until(is_confirmed)
            await asyncio.sleep(LEASE_S)
            await old.replicaof("NO", "ONE")
            await asyncio.sleep(lasts_s)
            await old.replicaof(LOOPBACK, self._standby.port)
            await self._hand_over(new, to=old, port=self._primary.port)

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[tuple[Any, Any]]:
        """The primary, and a standby that follows it; the primary is left as it was."""
        await asyncio.to_thread(self._standby.start)
        try:
            async with (
                redis.asyncio.Redis.from_url(self._primary.url) as old,
                redis.asyncio.Redis.from_url(self._standby.url) as new,
            ):
                try:
                    await new.replicaof(LOOPBACK, self._primary.port)
                    for server in (old, new):
                        # A replica that joins is not kept waiting for others.
                        await server.config_set("repl-diskless-sync-delay", 0)
                    await _until(lambda: _says(old, "slave0", "online"))
                    yield old, new
                finally:
                    await old.client_unpause()
                    await old.replicaof("NO", "ONE")
                    self._lead_to(self._primary.port)
        finally:
            await asyncio.to_thread(self._standby.kill)

    async def _hand_over(self, old: Any, *, to: Any, port: int) -> None:
        """Make `to` the primary once it has all that `old` has."""
        await _until(lambda: _says(old, "slave0", "online"))
        # The server's own: it holds writes until the replica has them all, and swaps the roles.
        await old.execute_command("FAILOVER", "TO", LOOPBACK, port, "TIMEOUT", 5_000)
        await _until(lambda: _says(to, "role", "master"))
        self._lead_to(port)

    def _lead_to(self, port: int, *, except_: str = "") -> None:
        for link, proxy in self._arena.links.items():
            if link.endswith(REDIS) and link != except_:
                proxy.switch(LOOPBACK, port)


async def _has_all(replica: Any, primary: Any) -> bool:
    written = (await primary.info("replication"))["master_repl_offset"]
    return bool((await replica.info("replication"))["slave_repl_offset"] == written)


async def _says(client: Any, field: str, value: str) -> bool:
    facts: dict[str, Any] = await client.info("replication")
    found = facts.get(field)
    # slave0 is a group of fields of its own.
    return value in (found.values() if isinstance(found, dict) else (found,))


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while not await look():
        if time.monotonic() > deadline_s:
            raise StackError("redis was not failed over in time")
        await asyncio.sleep(LOOK_EVERY_S)
