"""A Valkey and a replica of it that follows through a proxy, so that a test can cut it off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio
from pydantic import SecretStr

from devstack import ValkeyServer
from devstack.ports import LOOPBACK
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.redis_client import open_redis
from seckill.runtime.redis_reads import PrimaryReads, open_reads
from tests.kits.faults.proxy import FaultProxy
from tests.kits.waiting import eventually

# Commands by which values are read.
READS = ("get", "mget", "hgetall")


@dataclass(frozen=True)
class ReplicatedRedis:
    """A primary, its replica, and what is between them.

    Attributes:
        link: what the replica follows the primary through.
    """

    primary: ValkeyServer
    replica: ValkeyServer
    link: FaultProxy
    on_primary: "redis.asyncio.Redis"
    on_replica: "redis.asyncio.Redis"

    async def until_in_step(self) -> None:
        """Wait until the replica has all that the primary has now."""
        await self.on_primary.set("in-step", mark := id(object()))
        await eventually(
            lambda: self.on_replica.get("in-step"), lambda found: found == b"%d" % mark
        )

    def settings(self, **changes: Any) -> ReadSettings:
        """Settings of a service that reads from the replica."""
        facts = {
            "redis_url": SecretStr(self.primary.url),
            "redis_read_from": "replica",
            "redis_timeout_s": 20.0,
        }
        return ReadSettings.model_validate(facts | changes)

    @asynccontextmanager
    async def reads(self, **changes: Any) -> AsyncIterator[PrimaryReads]:
        """Open what a process reads by."""
        settings = self.settings(**changes)
        async with open_redis(settings) as client, open_reads(client, settings) as reads:
            yield reads


async def reads_on(client: "redis.asyncio.Redis", *commands: str) -> int:
    """Return how many commands a server has run that read values."""
    stats: Any = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in commands or READS)


@asynccontextmanager
async def replicated_redis(
    directory: Path, server_type: type[ValkeyServer] = ValkeyServer
) -> AsyncIterator[ReplicatedRedis]:
    """Start both."""
    with server_type(directory / "primary") as primary, server_type(directory / "replica") as other:
        async with (
            FaultProxy(LOOPBACK, primary.port).running() as link,
            redis.asyncio.Redis.from_url(primary.url) as on_primary,
            redis.asyncio.Redis.from_url(other.url) as on_replica,
        ):
            await on_primary.config_set("repl-diskless-sync-delay", 0)
            await on_replica.replicaof(LOOPBACK, link.port)
            both = ReplicatedRedis(primary, other, link, on_primary, on_replica)
            await both.until_in_step()
            yield both
