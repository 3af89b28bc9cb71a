"""Carries the schedule of faults out, and notes what was really done and when."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aiokafka.errors import KafkaConnectionError
from redis.exceptions import RedisClusterException, RedisError

from campaigns.soak.arena import Arena
from campaigns.soak.damage import Damage
from campaigns.soak.failover import RedisFailover
from campaigns.soak.faults import FaultPlan, replicas
from campaigns.soak.redis_servers import FOLLOWED_FROM_S, RedisServers, client_of
from devstack import StackError, ValkeyServer
from devstack.server import Server

SESSIONS_EVERY_S = 0.3
SCRIPTS_EVERY_S = 0.1
# What this fault needs is down because of another one.
NOT_DONE = (OSError, RedisError, RedisClusterException, StackError, KafkaConnectionError)


@dataclass
class Injected:
    """A fault as it was: seconds after the start of the campaign; `note` says what it did."""

    plan: FaultPlan
    started_s: float
    ended_s: float = 0.0
    note: str = ""


class Injector:
    """Carries out faults as planned; each undoes itself at its end."""

    def __init__(self, arena: Arena, damage: Damage) -> None:
        self._arena = arena
        self._damage = damage
        self.injected: list[Injected] = []
        # A target may need longer to come back than planned: its next fault waits for that.
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kinds: dict[str, Callable[[FaultPlan], Awaitable[str]]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "freeze": self._freeze,
            "failpoint": self._failpoint,
            "drop": self._drop,
            "reset": self._reset,
            "hold requests": self._hold_requests,
            "hold replies": self._hold_replies,
            # Not drawn by lot: for scenarios that need it.
            "lose requests": self._lose_requests,
            "delay": self._delay,
            "kill store": self._kill_store,
            "freeze store": self._freeze_store,
            "end sessions": self._end_sessions,
            "flush scripts": self._flush_scripts,
            "fill redis": self._fill_redis,
            "fail over redis": self._fail_over_redis,
            "stale master": self._stale_master,
            "roll": self._roll,
            **damage.kinds(),
        }

    async def run(self, faults: Sequence[FaultPlan]) -> None:
        """Carry out each fault at its time; return when the last one is over."""
        async with asyncio.TaskGroup() as running:
            for plan in faults:
                await asyncio.sleep(max(0.0, plan.at_s - self._arena.now_s))
                running.create_task(self._carry_out(plan))

    async def _carry_out(self, plan: FaultPlan) -> None:
        fault = Injected(plan, started_s=self._arena.now_s)
        self.injected.append(fault)
        try:
            async with self._locks[plan.target]:
                fault.note = await self._kinds[plan.kind](plan)
        except NOT_DONE as error:
            fault.note = f"not done: {error!r}"[:120]
        fault.ended_s = self._arena.now_s

    async def _kill(self, plan: FaultPlan) -> str:
        return await self._end(plan, self._arena.cluster.kill)

    async def _terminate(self, plan: FaultPlan) -> str:
        codes: list[int] = []

        async def terminate(replica: str) -> None:
            codes.append(await self._arena.cluster.terminate(replica))

        await self._end(plan, terminate)
        return "" if codes == [0] else f"exit code {codes}"

    async def _end(self, plan: FaultPlan, end: Callable[[str], Awaitable[None]]) -> str:
        if plan.target in self._arena.down:
            return "not done: it is down"
        self._arena.down.add(plan.target)
        await end(plan.target)
        await asyncio.sleep(plan.lasts_s)
        await self._relaunch(plan.target)
        return ""

    async def _roll(self, plan: FaultPlan) -> str:
        """Restart all replicas of a service, one after the other, as a rollout does."""
        arena, codes = self._arena, []
        for replica in replicas(plan.target.removeprefix("all of ")):
            if replica in arena.down:
                continue
            arena.down.add(replica)
            codes.append(await arena.cluster.terminate(replica))
            await self._relaunch(replica)
            await arena.cluster.wait_ready(replica)
        return f"exit codes {codes}"

    async def _relaunch(self, replica: str) -> None:
        await self._arena.launch(replica)
        self._arena.down.discard(replica)

    async def _freeze(self, plan: FaultPlan) -> str:
        self._arena.cluster.freeze(plan.target)
        await asyncio.sleep(plan.lasts_s)
        self._arena.cluster.thaw(plan.target)
        return ""

    async def _failpoint(self, plan: FaultPlan) -> str:
        arena, replica = self._arena, plan.target
        if replica in arena.down:
            return "not done: it is down"
        arena.down.add(replica)
        # By SIGTERM, so that it leaves its consumer group and can join again at once.
        await arena.cluster.terminate(replica)
        await arena.launch(replica, failpoints=plan.detail)
        try:
            await arena.cluster.wait_exit(replica, timeout_s=plan.lasts_s)
            note = ""
        except AssertionError:
            note = "not reached, or slept"
            await arena.cluster.kill(replica)
        await self._relaunch(replica)
        return note

    async def _drop(self, plan: FaultPlan) -> str:
        proxy = self._arena.links[plan.target]
        proxy.drop()
        await asyncio.sleep(plan.lasts_s)
        proxy.heal()
        return ""

    async def _reset(self, plan: FaultPlan) -> str:
        self._arena.links[plan.target].reset()
        return ""

    async def _hold_requests(self, plan: FaultPlan) -> str:
        way = self._arena.links[plan.target].requests
        return await self._hold(way, plan.lasts_s)

    async def _hold_replies(self, plan: FaultPlan) -> str:
        way = self._arena.links[plan.target].replies
        return await self._hold(way, plan.lasts_s)

    async def _hold(self, way: asyncio.Event, lasts_s: float) -> str:
        way.clear()
        await asyncio.sleep(lasts_s)
        way.set()
        return ""

    async def _lose_requests(self, plan: FaultPlan) -> str:
        """Hold requests, and cut their connections before any of them has passed."""
        proxy = self._arena.links[plan.target]
        proxy.requests.clear()
        await asyncio.sleep(plan.lasts_s)
        proxy.reset()
        proxy.requests.set()
        return ""

    async def _delay(self, plan: FaultPlan) -> str:
        proxy = self._arena.links[plan.target]
        proxy.delay_s = float(plan.detail)
        await asyncio.sleep(plan.lasts_s)
        proxy.delay_s = 0.0
        return ""

    async def _kill_store(self, plan: FaultPlan) -> str:
        if plan.target == "redis":
            return await self._kill_redis(plan)
        server = self._server(plan.target)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(plan.lasts_s)
        await asyncio.to_thread(server.start)
        return ""

    async def _freeze_store(self, plan: FaultPlan) -> str:
        if plan.target == "redis":
            return await self._freeze_redis(plan)
        server = self._server(plan.target)
        server.pause()
        await asyncio.sleep(plan.lasts_s)
        with suppress(StackError):
            server.resume()
        return ""

    def _server(self, name: str) -> Server:
        stores = self._arena.stores
        servers: dict[str, Server] = {"kafka": stores.kafka, "postgres": stores.postgres}
        return servers[name]

    async def _kill_redis(self, plan: FaultPlan) -> str:
        server = await self._redis.victim(plan)
        await asyncio.to_thread(server.kill)
        try:
            await self._be_away(server, plan.lasts_s)
        finally:
            await asyncio.to_thread(server.start)
        return self._followed(server)

    async def _freeze_redis(self, plan: FaultPlan) -> str:
        server = await self._redis.victim(plan)
        server.pause()
        try:
            await self._be_away(server, plan.lasts_s)
        finally:
            with suppress(StackError):
                server.resume()
        return self._followed(server)

    async def _be_away(self, server: ValkeyServer, away_s: float) -> None:
        await asyncio.sleep(away_s)
        await self._redis.until_followed(server, away_s=away_s)

    def _followed(self, server: ValkeyServer) -> str:
        """Note what a server that was away may have lost: what its replica did not have."""
        if self._redis.cluster is None:
            return ""
        self._damage.failed_over()
        return f"port {server.port}"

    @property
    def _redis(self) -> RedisServers:
        return self._arena.stores.redis

    async def _end_sessions(self, plan: FaultPlan) -> str:
        ended = 0
        deadline_s = time.monotonic() + plan.lasts_s
        while time.monotonic() < deadline_s:
            ended += await self._arena.reader.sql.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'order_svc'"
            )
            await asyncio.sleep(SESSIONS_EVERY_S)
        return f"{ended} sessions"

    async def _flush_scripts(self, plan: FaultPlan) -> str:
        deadline_s = time.monotonic() + plan.lasts_s
        while time.monotonic() < deadline_s:
            for server in self._redis.all:
                async with client_of(server) as client:
                    await client.script_flush()
            await asyncio.sleep(SCRIPTS_EVERY_S)
        return ""

    async def _fill_redis(self, plan: FaultPlan) -> str:
        """Let Redis refuse whatever needs memory."""
        async with client_of(await self._redis.victim(plan)) as client:
            await client.config_set("maxmemory", 1)
            try:
                await asyncio.sleep(plan.lasts_s)
            finally:
                await client.config_set("maxmemory", 0)
        return ""

    async def _fail_over_redis(self, plan: FaultPlan) -> str:
        if self._redis.cluster is None:
            await RedisFailover(self._arena).carry_out(plan.lasts_s)
            return ""
        server = await self._redis.victim(plan)
        replica = await self._redis.hand_over(server)
        await asyncio.sleep(plan.lasts_s)
        await self._redis.hand_over(replica)
        return f"port {server.port}"

    async def _stale_master(self, plan: FaultPlan) -> str:
        """Fail over, and let one replica of a service stay with the old primary.

        In a cluster: freeze a master until it is followed. It wakes with all its callers.
        """
        if self._redis.cluster is not None:
            return await self._freeze_redis(
                replace(plan, lasts_s=max(plan.lasts_s, FOLLOWED_FROM_S))
            )
        await RedisFailover(self._arena).leave_behind(plan.lasts_s, link=plan.detail)
        return ""
