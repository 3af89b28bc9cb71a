"""The campaign's own stores, each behind a proxy for every service that uses it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import asyncpg

from campaigns.soak.faults import LINKS
from campaigns.soak.redis_servers import DurableValkey, RedisServers, durable_cluster
from devstack import (
    KafkaServer,
    LocalSettings,
    LocalStack,
    PostgresServer,
    Stores,
)
from devstack.ports import LOOPBACK, pick_free_port
from tests.kits.faults.proxy import ClusterProxy, FaultProxy


class RedisKind(StrEnum):
    """What a campaign has for Redis."""

    SINGLE = "single"
    CLUSTER = "cluster"


class LinkedKafka(KafkaServer):
    """A broker with a listener for each caller, which advertises that caller's proxy."""

    def __init__(self, directory: Path, *, proxied: Mapping[str, tuple[int, int]]) -> None:
        """`proxied`: link → (port of its listener, port of its proxy)."""
        super().__init__(directory)
        self._proxied = proxied

    def _write_properties(self) -> None:
        super()._write_properties()
        lines = self._properties_path.read_text().splitlines()
        names = {link: f"LINK{number}" for number, link in enumerate(sorted(self._proxied))}
        more = {
            "listeners": [
                f"{name}://{LOOPBACK}:{self._proxied[link][0]}" for link, name in names.items()
            ],
            "advertised.listeners": [
                f"{name}://{LOOPBACK}:{self._proxied[link][1]}" for link, name in names.items()
            ],
            "listener.security.protocol.map": [f"{name}:PLAINTEXT" for name in names.values()],
        }
        changed = [",".join([line, *more.get(line.partition("=")[0], ())]) for line in lines]
        self._properties_path.write_text("\n".join(changed) + "\n")


@dataclass
class LinkedStores:
    """Three running stores, and the addresses at which each service finds them.

    Attributes:
        direct: addresses without a proxy.
        proxies: by link, "caller>store".
        versions: of the servers, by name.
    """

    redis: RedisServers
    kafka: LinkedKafka
    postgres: PostgresServer
    direct: Stores
    proxies: dict[str, FaultProxy]
    versions: dict[str, str]

    async def fresh(self, name: str) -> Stores:
        """Empty Redis, create a database of that name, and return addresses without a proxy."""
        await self.redis.empty()
        connection = await asyncpg.connect(self.direct.postgres_dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = f"{self.direct.postgres_dsn.rpartition('/')[0]}/{name}"
        return replace(self.direct, postgres_dsn=dsn)

    def settings(self, replica: str, *, database: str) -> dict[str, str]:
        """Return the settings with which one replica finds its stores."""
        found = {}
        if link := self.proxies.get(f"{replica}>redis"):
            found["redis_url"] = (
                link.url if isinstance(link, ClusterProxy) else f"redis://{LOOPBACK}:{link.port}/0"
            )
        if link := self.proxies.get(f"{replica}>kafka"):
            found["kafka_bootstrap"] = f"{LOOPBACK}:{link.port}"
        if link := self.proxies.get(f"{replica}>postgres"):
            credentials = self.direct.postgres_dsn.rpartition("@")[0]
            found["postgres_dsn"] = f"{credentials}@{LOOPBACK}:{link.port}/{database}"
        return found


@asynccontextmanager
async def linked_stores(
    directory: Path, *, kind: RedisKind = RedisKind.SINGLE
) -> AsyncIterator[LinkedStores]:
    """Start three stores of the campaign's own; they end with the context.

    Raises:
        StackError: one cannot be started.
    """
    is_cluster = kind is RedisKind.CLUSTER
    stack = LocalStack(LocalSettings(directory=directory, cluster=is_cluster))
    kafka_ports = {link: pick_free_port() for link in LINKS if link.endswith(">kafka")}
    async with AsyncExitStack() as running:
        proxies: dict[str, FaultProxy] = {}
        for link, port in kafka_ports.items():
            proxies[link] = await running.enter_async_context(FaultProxy(LOOPBACK, port).running())
        kafka = LinkedKafka(
            directory / "kafka",
            proxied={link: (port, proxies[link].port) for link, port in kafka_ports.items()},
        )
        stack.kafka = kafka
        if is_cluster:
            stack.valkey_cluster = durable_cluster(directory / "valkey")
        else:
            stack.valkey = DurableValkey(directory / "valkey")
        running.callback(stack.stop)
        direct = await asyncio.to_thread(stack.start)
        assert stack.postgres is not None
        servers = RedisServers(single=stack.valkey, cluster=stack.valkey_cluster)
        redis_ports = [server.port for server in servers.all]
        for number, link in enumerate(LINKS):
            store = link.partition(">")[2]
            if store == "redis" and is_cluster:
                proxy: FaultProxy = ClusterProxy(f"127.0.1.{1 + number}", redis_ports)
            elif store == "redis":
                proxy = FaultProxy(LOOPBACK, *redis_ports)
            elif store == "postgres":
                proxy = FaultProxy(LOOPBACK, stack.postgres.port)
            else:
                continue
            proxies[link] = await running.enter_async_context(proxy.running())
        yield LinkedStores(
            redis=servers,
            kafka=kafka,
            postgres=stack.postgres,
            direct=direct,
            proxies=proxies,
            versions=await asyncio.to_thread(stack.components),
        )
