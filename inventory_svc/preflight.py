"""What this service looks at before a sale: Redis, Kafka's settings, its own bounds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from inventory_svc.durability import unsafe_kafka_settings, unsafe_redis_settings
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.settings import InventorySettings
from seckill.findings import (
    FAILED,
    OK,
    WARNING,
    Check,
    Crowd,
    Finding,
    judged,
)
from seckill.runtime.preflight.common import (
    certificates,
    clock_of,
    readiness,
    redis_now_s,
    version_finding,
)
from seckill.runtime.preflight.service import PreflightServicer
from seckill.runtime.preflight.usage import cores_of, place
from seckill.runtime.redis_client import redis_faults, servers_of
from seckill.v1 import preflight_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Of Redis for an order: its hold, its place in the delay set, its projection (docs/capacity.md).
ORDER_BYTES = 600
# Of Redis for a reservation that waits in the outbox.
ENTRY_BYTES = 100
# What a rewrite of the append-only file and longer ids may take besides.
SPARE = 1.25
REDIS_LEAST = (6, 2)
LOCAL_HOSTS = ("localhost", "")
MIB = 2**20


def build_preflight(
    settings: InventorySettings,
    client: "redis.asyncio.Redis",
    *,
    kill_switch: KillSwitch,
    readiness_checks: Mapping[str, Callable[[], Awaitable[Any]]],
) -> PreflightServicer:
    """Return what operators ask before a sale.

    Args:
        readiness_checks: those that the process is ready by.
    """
    stores = _Stores(settings, client, kill_switch)
    checks: list[Check] = [
        readiness(readiness_checks),
        stores.redis_durability,
        stores.kafka_durability,
        stores.redis_memory,
        stores.redis_version,
        clock_of("redis", lambda: redis_now_s(client)),
        stores.backlog,
        stores.selling,
        certificates(settings),
    ]
    return PreflightServicer("inventory", checks, read_usage=stores.read_usage)


def _room(memory: Mapping[str, Any]) -> int:
    """Return the bytes that a server may take besides, by what INFO tells of its memory."""
    most = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
    return most - int(memory["used_memory"])


class _Stores:
    """Looks at Redis and Kafka."""

    def __init__(
        self, settings: InventorySettings, client: "redis.asyncio.Redis", kill_switch: KillSwitch
    ) -> None:
        self._settings = settings
        self._redis = client
        self._kill_switch = kill_switch

    async def redis_durability(self, _: Crowd) -> Sequence[Finding]:
        problems = await unsafe_redis_settings(self._redis, production=True)
        advice = (
            "CONFIG SET appendonly yes, CONFIG SET maxmemory-policy noeviction, and in its file"
        )
        return [judged("redis durability", problems, advice=advice, verdict=FAILED)]

    async def kafka_durability(self, _: Crowd) -> Sequence[Finding]:
        topic = self._settings.orders_topic
        problems = await unsafe_kafka_settings(self._settings.kafka_cluster(), topic=topic)
        advice = (
            f"three replicas of {topic}, and kafka-configs.sh --alter --topic {topic}"
            " --add-config min.insync.replicas=2"
        )
        # A broker of one's own for trying things has no second replica.
        production = self._settings.profile == "production"
        verdict = FAILED if production else WARNING
        return [judged("kafka durability", problems, advice=advice, verdict=verdict)]

    async def redis_memory(self, crowd: Crowd) -> Sequence[Finding]:
        with redis_faults():
            found: list[Any] = [
                await server.info("memory") for server in await servers_of(self._redis)
            ]
        # A sale is on one node of a cluster: it may be the one with the least room.
        memory = min(found, key=_room)
        waiting = min(crowd.units, self._settings.inventory_backlog_max)
        need = (crowd.units * ORDER_BYTES + waiting * ENTRY_BYTES) * SPARE
        used, most = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
        machine = int(memory.get("total_system_memory", 0))
        told = f"{used / MIB:.0f} MiB used, {need / MIB:.1f} MiB more for {crowd.units:,} units"
        least = int((used + need) / MIB) + 1
        if most and used + need > most:
            advice = f"CONFIG SET maxmemory {least}mb or more, and in its file"
            return [Finding("redis memory", FAILED, f"{told}, maxmemory {most / MIB:.0f}", advice)]
        if not most and machine and used + need > machine:
            advice = f"a machine with more than {least} MiB"
            return [Finding("redis memory", FAILED, f"{told} of {machine / MIB:.0f}", advice)]
        of = f"maxmemory {most / MIB:.0f} MiB" if most else "no maxmemory"
        return [Finding("redis memory", OK, f"{told}, {of}")]

    async def redis_version(self, _: Crowd) -> Sequence[Finding]:
        with redis_faults():
            facts: Any = await self._redis.info("server")
        name = "Valkey" if "valkey_version" in facts else "Redis"
        version = str(facts.get("valkey_version") or facts["redis_version"])
        return [version_finding("redis version", f"{name} {version}", least=REDIS_LEAST)]

    async def backlog(self, crowd: Crowd) -> Sequence[Finding]:
        most = self._settings.inventory_backlog_max
        found = f"{most:,} reservations of a sale may wait for Kafka"
        if crowd.units > most:
            advice = (
                "SECKILL_INVENTORY_BACKLOG_MAX: as many as there are units, or Kafka must take them"
                " while the sale goes on; beyond it attempts are refused as overload"
            )
            return [Finding("outbox", WARNING, f"{found}, {crowd.units:,} units", advice)]
        return [Finding("outbox", OK, found)]

    async def selling(self, _: Crowd) -> Sequence[Finding]:
        switch = await self._kill_switch.read()
        if switch.on:
            found = f"on: {switch.reason}"
            return [Finding("kill switch", FAILED, found, "seckill kill-switch off")]
        return [Finding("kill switch", OK, "off")]

    async def read_usage(self) -> Sequence[preflight_pb2.StageUsage]:
        """Return the CPU that Redis has used; its scripts run in one thread."""
        with redis_faults():
            servers: list[Any] = [
                await server.info("everything") for server in await servers_of(self._redis)
            ]
        return [self._usage_of(facts) for facts in servers]

    def _usage_of(self, facts: Mapping[str, Any]) -> preflight_pb2.StageUsage:
        pid = int(facts["process_id"]) if self._is_here() else 0
        return preflight_pb2.StageUsage(
            name="redis",
            instance=str(facts["run_id"]),
            cpu_seconds=float(facts["used_cpu_sys"]) + float(facts["used_cpu_user"]),
            cores=1.0,
            shared_cores=place(pid) if pid else "",
            shared_cores_count=cores_of(pid) if pid else 0,
        )

    def _is_here(self) -> bool:
        """Whether Redis runs on this machine."""
        host = str(self._redis.connection_pool.connection_kwargs.get("host", ""))
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host in LOCAL_HOSTS
