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

from deploy.local import StackError, Stores, create_topics
from deploy.local.ports import LOOPBACK
from order_svc.migrate import migrate
from tests.conftest import Topics
from tests.faults.line import Line, events_topic
from tests.faults.proxy import FaultProxy
from tests.faults.reading import StoreReader, open_reader
from tests.faults.sabotaged import command_with
from tests.soak.faults import CALLS, STAGES, replicas, stage_of
from tests.soak.stores import LinkedStores

PARTITIONS = 4
SUPERVISE_S = 0.2
# Short enough for a campaign; none of them changes what is done, only when.
SETTINGS = {
    "redis_timeout_s": "0.7",
    "postgres_timeout_s": "2",
    "gateway_rate_user": "0",
    "order_lag_interval_s": "1",
    "order_kafka_timeout_s": "3",
    "order_stall_timeout_s": "8",
    "order_events_timeout_s": "1.5",
    "order_projection_pending_ttl_s": "5",
    "rollback_call_timeout_s": "2",
    "rollback_put_off_s": "2",
    "rollback_lease_s": "3",
    "rollback_reconcile_age_min_s": "3",
}


@dataclass(frozen=True, kw_only=True)
class Death:
    """A stage that ended by itself.

    Attributes:
        at_s: seconds after the begin of the campaign.
        why: exit code and last complaint.
    """

    at_s: float
    replica: str
    why: str


@dataclass
class Arena:
    """Stores, stages and the links between them.

    Attributes:
        name: of its database and consumer group, and in the names of its topics.
        direct: its stores, without a proxy.
        down: replicas that are meant to be down, or to end.
        deaths: stages that ended without anybody having meant it.
        began_s: monotonic time of the campaign's begin.
    """

    name: str
    stores: LinkedStores
    direct: Stores
    topics: Topics
    links: dict[str, FaultProxy]
    line: Line
    reader: StoreReader
    settings: Mapping[str, str]
    down: set[str] = field(default_factory=set)
    deaths: list[Death] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        """Seconds since the campaign began."""
        return time.monotonic() - self.began_s

    async def begin(self, replica: str, *, failpoints: str = "") -> None:
        """Start a replica; it may not be ready yet."""
        await self.line.begin(replica, failpoints=failpoints, **self._settings_of(replica))

    async def start(self) -> None:
        """Start all stages and wait until they are ready; raises StackError."""
        for replica in STAGES:
            await self.begin(replica)
        await self.line.ready(*STAGES)
        for replica in STAGES:
            self.channels[replica] = self.line.channel(replica)

    async def supervise(self) -> None:
        """Start anew whatever ends by itself, as Kubernetes would, until cancelled."""
        while True:
            for replica in STAGES:
                code = self.line.exit_code(replica)
                if code is None or replica in self.down:
                    continue
                why = f"exit code {code}: {self.line.last_words(replica)}"
                self.deaths.append(Death(at_s=self.now_s, replica=replica, why=why))
                await self.begin(replica)
            await asyncio.sleep(SUPERVISE_S)

    async def heal(self) -> None:
        """Undo every fault; raises StackError where a store or a stage does not come back."""
        for proxy in self.links.values():
            proxy.heal()
        for server in (self.stores.postgres, self.stores.valkey, self.stores.kafka):
            if server.running:
                server.resume()
            await asyncio.to_thread(server.start)
        for replica in STAGES:
            self.line.thaw(replica)
            if self.line.exit_code(replica) is not None:
                await self.begin(replica)
        self.down.clear()

    async def all_ready(self) -> list[str]:
        """What keeps stages from being ready, each in a sentence."""
        problems = []
        for replica in STAGES:
            try:
                await self.line.ready(replica)
            except StackError as error:
                problems.append(f"{replica} is not ready after everything was healed: {error}")
        return problems

    def _stores_of(self, replica: str) -> dict[str, str]:
        return self.stores.settings(replica, database=self.name)

    def _settings_of(self, replica: str) -> dict[str, str]:
        found = {**SETTINGS, **self.settings, **self._stores_of(replica)}
        for callee in CALLS[stage_of(replica)]:
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
    """Topics, schema and links; no stage runs yet. The stages end with the context.

    Args:
        name: names what belongs to it; nothing before had the same.
        directory: for logs.
        settings: field name → value, for all stages.
        bug: planted in all stages.

    Raises:
        StackError: something cannot be prepared.
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
        line = Line(direct, topics=topics, group=name, directory=directory, reader=reader, bug=bug)
        stack.callback(line.stop)
        links = dict(stores.proxies)
        for caller in STAGES:
            for callee in CALLS[stage_of(caller)]:
                for replica in replicas(callee):
                    proxy = FaultProxy(*line.address(replica))
                    links[f"{caller}>{replica}"] = await stack.enter_async_context(proxy.running())
        arena = Arena(name, stores, direct, topics, links, line, reader, settings)
        yield arena
        for channel in arena.channels.values():
            await channel.close()


async def _migrate(dsn: str, *, bug: str) -> None:
    """Bring the schema up, in a process of its own where a bug is planted in it."""
    if not bug:
        await migrate(dsn)
        return
    command = command_with([sys.executable, "-m", "order_svc.migrate"], bug)
    child = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "SECKILL_POSTGRES_DSN": dsn},
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await child.wait() != 0:
        raise StackError("the order database was not migrated")
