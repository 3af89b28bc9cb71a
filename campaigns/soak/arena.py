"""Where a campaign takes place: the whole mesh in replicas, on stores and links that can fail."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from campaigns.soak.faults import CALLS, SERVICES, replicas, service_of
from campaigns.soak.stores import LinkedStores
from devstack import StackError, Stores, create_topics
from devstack.ports import LOOPBACK
from order_svc.db.migrate import migrate
from tests.kits.faults.cluster import Cluster, events_topic
from tests.kits.faults.proxy import FaultProxy
from tests.kits.faults.reading import StoreReader, open_reader
from tests.kits.planted_bug import command_with
from tests.kits.stores import Topics

PARTITIONS = 4
SUPERVISE_S = 0.2
# Short enough for a campaign. They change when things are done, never what is done.
SETTINGS = {
    "redis_timeout_s": "0.7",
    "postgres_timeout_s": "2",
    "gateway_rate_user": "0",
    "gateway_rate_issue": "0",
    "order_lag_interval_s": "1",
    "order_kafka_timeout_s": "3",
    "order_stall_timeout_s": "8",
    "order_events_timeout_s": "1.5",
    "order_projection_pending_ttl_s": "5",
    "rollback_call_timeout_s": "2",
    "rollback_put_off_s": "2",
    "rollback_lease_s": "3",
    "rollback_reconcile_age_min_s": "3",
    "rollback_reconcile_interval_s": "3",
    "rollback_reconcile_timeout_s": "10",
}


@dataclass(frozen=True, kw_only=True)
class Death:
    """A service that ended by itself.

    Attributes:
        at_s: seconds after the start of the campaign.
        why: exit code and last complaint.
    """

    at_s: float
    replica: str
    why: str


@dataclass
class Arena:
    """The stores and services of a campaign, and the links between them.

    Attributes:
        name: of its database and consumer group, and part of the names of its topics.
        direct: addresses of its stores, without a proxy.
        down: replicas that a fault has stopped, or is about to.
        deaths: services that ended and that no fault had stopped.
        started_s: monotonic time of the campaign's start.
    """

    name: str
    stores: LinkedStores
    direct: Stores
    topics: Topics
    links: dict[str, FaultProxy]
    cluster: Cluster
    reader: StoreReader
    settings: Mapping[str, str]
    down: set[str] = field(default_factory=set)
    deaths: list[Death] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        """Return the seconds since the start of the campaign."""
        return time.monotonic() - self.started_s

    async def launch(self, replica: str, *, failpoints: str = "") -> None:
        """Start a replica without waiting until it is ready."""
        await self.cluster.launch(replica, failpoints=failpoints, **self._settings_of(replica))

    async def start(self) -> None:
        """Start all services and wait until they are ready; raises StackError."""
        for replica in SERVICES:
            await self.launch(replica)
        await self.cluster.wait_ready(*SERVICES)
        for replica in SERVICES:
            self.channels[replica] = self.cluster.channel(replica)

    async def supervise(self) -> None:
        """Restart each service that ends by itself, as Kubernetes would, until cancelled."""
        while True:
            for replica in SERVICES:
                code = self.cluster.exit_code(replica)
                if code is None or replica in self.down:
                    continue
                why = f"exit code {code}: {self.cluster.last_log_line(replica)}"
                self.deaths.append(Death(at_s=self.now_s, replica=replica, why=why))
                await self.launch(replica)
            await asyncio.sleep(SUPERVISE_S)

    async def heal(self) -> None:
        """Undo every fault; raises StackError if a store or a service does not come back."""
        for proxy in self.links.values():
            proxy.heal()
        for server in (self.stores.postgres, self.stores.kafka):
            if server.running:
                server.resume()
            await asyncio.to_thread(server.start)
        await self.stores.redis.heal()
        for replica in SERVICES:
            self.cluster.thaw(replica)
            if self.cluster.exit_code(replica) is not None:
                await self.launch(replica)
        self.down.clear()

    async def all_ready(self) -> list[str]:
        """Return a sentence for each service that does not become ready."""
        problems = []
        for replica in SERVICES:
            try:
                await self.cluster.wait_ready(replica)
            except StackError as error:
                problems.append(f"{replica} is not ready after everything was healed: {error}")
        return problems

    def _stores_of(self, replica: str) -> dict[str, str]:
        return self.stores.settings(replica, database=self.name)

    def _settings_of(self, replica: str) -> dict[str, str]:
        found = {**SETTINGS, **self.settings, **self._stores_of(replica)}
        for callee in CALLS[service_of(replica)]:
            ports = [self.links[f"{replica}>{one}"].port for one in replicas(callee)]
            addresses = ",".join(f"{LOOPBACK}:{port}" for port in ports)
            found[f"{callee}_target"] = f"ipv4:{addresses}"
        return found


@asynccontextmanager
async def open_arena(
    stores: LinkedStores,
    *,
    name: str,
    directory: Path,
    settings: Mapping[str, str],
    bug: str = "",
) -> AsyncIterator[Arena]:
    """Create topics, schema and links; start no service yet. Services end with the context.

    Args:
        name: of its database, topics and consumer group; must be new.
        directory: for logs.
        settings: field name → value, for all services.
        bug: planted in all services.

    Raises:
        StackError: a topic or the schema cannot be created.
    """
    direct = await stores.fresh(name)
    topics = Topics(orders=f"orders-{name}", dead_letters=f"dead-letters-{name}")
    partitions = {topics.orders: PARTITIONS, topics.dead_letters: 1, events_topic(name): 1}
    await asyncio.gather(
        create_topics(direct.kafka_bootstrap, partitions), _migrate(direct.postgres_dsn, bug=bug)
    )
    async with (
        AsyncExitStack() as stack,
        open_reader(direct, topics=topics, group=name) as reader,
    ):
        cluster = Cluster(
            direct, topics=topics, group=name, directory=directory, reader=reader, bug=bug
        )
        stack.callback(cluster.stop)
        links = dict(stores.proxies)
        for caller in SERVICES:
            for callee in CALLS[service_of(caller)]:
                for replica in replicas(callee):
                    proxy = FaultProxy(LOOPBACK, cluster.port(replica))
                    links[f"{caller}>{replica}"] = await stack.enter_async_context(proxy.running())
        arena = Arena(name, stores, direct, topics, links, cluster, reader, settings)
        yield arena
        for channel in arena.channels.values():
            await channel.close()


async def _migrate(dsn: str, *, bug: str) -> None:
    """Migrate the database, in a process of its own if there is a bug to plant in it."""
    if not bug:
        await migrate(dsn)
        return
    command = command_with([sys.executable, "-m", "order_svc.db.migrate"], bug)
    child = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "SECKILL_POSTGRES_DSN": dsn},
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await child.wait() != 0:
        raise StackError("the order database was not migrated")
