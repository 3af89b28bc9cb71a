"""Stores that may lose what they acknowledge: the stage lives, and takes no calls."""

from dataclasses import replace

from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local import Stores, ValkeyServer
from tests.faults.conftest import MakeLine
from tests.faults.line import CALL_S, Line
from tests.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING


async def ready(line: Line, stage: str, service: str = "") -> bool:
    """Whether the stage takes calls; with the service "live": whether it runs at all."""
    async with line.channel(stage) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=CALL_S, wait_for_ready=True
        )
    return bool(answer.status == SERVING)


async def test_a_redis_that_evicts_keeps_inventory_from_getting_ready(
    make_line: MakeLine, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Put right, it becomes ready by itself; put wrong while it serves, it stops taking calls."""
    async with make_line(replace(own_stores, redis_url=own_valkey.url)) as line:
        redis = line.reader.redis
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await line.begin("inventory", inventory_configuration_interval_s="0.2")

        async def said() -> bool:
            return "maxmemory-policy is allkeys-lru" in line.log("inventory")

        await eventually(said)
        assert not await ready(line, "inventory")
        assert await ready(line, "inventory", "live")
        await redis.config_set("maxmemory-policy", "noeviction")
        await eventually(lambda: ready(line, "inventory"))
        await redis.config_set("maxmemory-policy", "volatile-ttl")
        await eventually(lambda: ready(line, "inventory"), lambda seen: not seen)


async def test_a_database_that_does_not_wait_for_its_disk_keeps_order_from_getting_ready(
    line: Line,
) -> None:
    """synchronous_commit = off: a crash would lose orders whose buyers were told."""
    name = await line.reader.sql.fetchval("SELECT current_database()")
    await line.reader.sql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await line.begin("order")

    async def said() -> bool:
        return "synchronous_commit is off" in line.log("order")

    await eventually(said)
    assert not await ready(line, "order")
    assert await ready(line, "order", "live")
