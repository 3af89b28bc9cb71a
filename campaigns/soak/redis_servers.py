"""The Redis of a campaign: one server, or a cluster of which a fault hits one master at a time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio

from campaigns.soak.faults import FaultPlan
from devstack import StackError, ValkeyCluster, ValkeyServer
from devstack.valkey_cluster import ClusterNode
from seckill.runtime.redis_slots import slot_of
from tests.kits.redis_cluster import is_whole

SYNC_EACH_WRITE = {"appendfsync": "always"}
# Nodes name no host: each service finds all of them behind its own proxy.
CLUSTER_SETTINGS = {**SYNC_EACH_WRITE, "cluster-preferred-endpoint-type": "unknown-endpoint"}
# A master that is away for longer is to be followed by its replica: it stays away until it is.
FOLLOWED_FROM_S = 1.5
STEP_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.1


class DurableValkey(ValkeyServer):
    """A Valkey that syncs each write: it loses exactly what a fault cuts off its log."""

    def _settings(self) -> dict[str, str]:
        return {**super()._settings(), **SYNC_EACH_WRITE}


def durable_cluster(directory: Path) -> ValkeyCluster:
    """Describe a cluster of such servers."""
    return ValkeyCluster(directory, settings=CLUSTER_SETTINGS)


@dataclass(frozen=True)
class RedisServers:
    """The server on its own, or the cluster; the other is None."""

    single: ValkeyServer | None
    cluster: ValkeyCluster | None

    @property
    def all(self) -> Sequence[ValkeyServer]:
        """All servers."""
        nodes = self.cluster.nodes if self.cluster else ()
        return [server for server in (self.single, *nodes) if server is not None]

    async def victim(self, fault: FaultPlan) -> ValkeyServer:
        """Return the server that a fault hits: of a cluster a master, whose replica has its data.

        Raises:
            StackError: the cluster has not recovered from the fault before.
        """
        if self.single is not None:
            return self.single
        cluster = self._cluster
        await self.until_whole()
        masters = await asyncio.to_thread(cluster.masters)
        return masters[int(1_000 * fault.at_s) % len(masters)]

    def has(self, server: ValkeyServer, key: str) -> bool:
        """Return whether a key belongs to this server now; raises StackError."""
        return self.single is server or self._cluster.master_of(slot_of([key])) is server

    async def until_followed(self, server: ValkeyServer, *, away_s: float) -> None:
        """Wait until a replica has taken a master's place, if it is away for long enough for that.

        Raises:
            StackError: none has.
        """
        if self.cluster is None or away_s < FOLLOWED_FROM_S:
            return
        node = _node(server)
        await _until(lambda: self._cluster.is_followed(node), "no replica has followed")

    async def hand_over(self, server: ValkeyServer) -> ValkeyServer:
        """Let the replica of a living master take its place, and return that replica.

        Raises:
            StackError: it does not.
        """
        node = _node(server)
        replica = await asyncio.to_thread(_replica_of, self._cluster, node)
        async with client_of(replica) as client:
            commands: Any = client  # redis-py leaves it untyped
            await commands.execute_command("CLUSTER", "FAILOVER")
        await _until(lambda: self._cluster.is_followed(node), "the replica has not followed")
        await self.until_whole()
        return replica

    async def until_whole(self) -> None:
        """Wait until each master has a replica in step with it; raises StackError."""
        if self.cluster is not None:
            await _until(lambda: is_whole(self._cluster), "the cluster has not recovered")

    async def empty(self) -> None:
        """Remove all that is in Redis; raises StackError."""
        await self.until_whole()
        for server in self.all if self.cluster is None else self.cluster.masters():
            async with client_of(server) as client:
                await client.flushall()

    async def heal(self) -> None:
        """Have all servers run; raises StackError if one does not, or the cluster is not whole."""
        for server in self.all:
            if server.running:
                server.resume()
        for server in self.all:
            await asyncio.to_thread(server.start)
        await self.until_whole()

    @property
    def _cluster(self) -> ValkeyCluster:
        assert self.cluster is not None
        return self.cluster


def client_of(server: ValkeyServer) -> "redis.asyncio.Redis":
    """Return a client of one server alone."""
    return redis.asyncio.Redis.from_url(server.url)


def _node(server: ValkeyServer) -> ClusterNode:
    assert isinstance(server, ClusterNode)
    return server


def _replica_of(cluster: ValkeyCluster, master: ClusterNode) -> ClusterNode:
    for node in cluster.nodes:
        if node is not master:
            with node.client() as client:
                facts = client.info("replication")
            if facts["role"] == "slave" and int(facts["master_port"]) == master.port:
                return node
    raise StackError(f"{master.address} has no replica")


async def _until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while not await asyncio.to_thread(_holds, is_so):
        if time.monotonic() > deadline_s:
            raise StackError(otherwise)
        await asyncio.sleep(LOOK_EVERY_S)


def _holds(is_so: Callable[[], bool]) -> bool:
    try:
        return is_so()
    except (redis.RedisError, OSError, StackError):
        # A node that does not answer is not in order.
        return False
