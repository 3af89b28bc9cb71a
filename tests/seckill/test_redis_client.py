"""Commands sent in one go, on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from pydantic import SecretStr
from redis.exceptions import ResponseError

from devstack import Redis62Server, ValkeyServer
from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime.redis_client import (
    check_writable,
    open_redis,
    redis_faults,
    send_all,
)
from seckill.runtime.redis_pool import WrongServer
from seckill.runtime.store_settings import RedisSettings
from tests.kits.factories import new_id
from tests.kits.faults.fixtures import redis_address
from tests.kits.faults.proxy import FaultProxy
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

# The client of a cluster is another one: tests/cluster/test_cluster_client.py.
pytestmark = one_server


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """With one connection, so that a call that leaves a reply behind is found out."""
    async with redis.asyncio.Redis.from_url(
        redis_url, max_connections=1, socket_timeout=5
    ) as opened:
        yield opened


async def test_replies_come_in_the_order_of_the_commands(client: "redis.asyncio.Redis") -> None:
    """As many as there are commands, each with its own."""
    key = new_id("key")
    commands = [("SET", key, 0), *[("INCRBY", key, step) for step in range(500)], ("GET", key)]
    replies = await send_all(client, commands)
    assert replies[0] == b"OK"
    assert replies[1:-1] == [step * (step + 1) // 2 for step in range(500)]
    assert replies[-1] == b"124750"
    assert await send_all(client, []) == []


async def test_a_refused_command_stops_none_and_is_told(client: "redis.asyncio.Redis") -> None:
    """The others run, and the next caller gets its own reply."""
    key = new_id("key")
    with pytest.raises(ResponseError):
        await send_all(client, [("SET", key, "x"), ("INCR", key), ("APPEND", key, "y")])
    assert await send_all(client, [("GET", key)]) == [b"xy"]


async def test_a_call_broken_off_leaves_no_reply_to_the_next(client: "redis.asyncio.Redis") -> None:
    """Cancelled at any point: the next caller on the only connection gets its own reply."""
    key = new_id("key")
    await client.set(key, "mine")
    for step in range(30):
        task = asyncio.ensure_future(send_all(client, [("ECHO", f"another's {step}")] * 50))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await send_all(client, [("GET", key)]) == [b"mine"]


async def test_a_connection_that_died_unseen_is_replaced(
    client: "redis.asyncio.Redis", redis_url: str
) -> None:
    """Killed on the server's side between two calls: the caller does not notice."""
    (number,) = await send_all(client, [("CLIENT", "ID")])
    async with redis.asyncio.Redis.from_url(redis_url) as other:
        await other.client_kill_filter(_id=number)
    assert await send_all(client, [("PING",)]) == [b"PONG"]


async def test_commands_beyond_the_connections_wait_for_one(redis_url: str) -> None:
    """A hundred at once over two connections: none fails."""
    settings = RedisSettings(
        redis_url=SecretStr(redis_url), redis_connections_max=2, redis_timeout_s=30
    )
    key = new_id("key")
    async with open_redis(settings) as opened:
        replies = await asyncio.gather(
            *(opened.incr(key) for _ in range(50)),
            *(send_all(opened, [("INCR", key)]) for _ in range(50)),
        )
    assert len(replies) == 100


def settings_of(port: int, *, database: str = "0") -> RedisSettings:
    """Settings for a server on this port, with a few connections."""
    return RedisSettings(
        redis_url=SecretStr(f"redis://127.0.0.1:{port}/{database}"),
        redis_connections_max=8,
        redis_timeout_s=5,
    )


@pytest.mark.parametrize("server_type", [ValkeyServer, Redis62Server])
async def test_after_a_failover_all_connections_reach_the_new_primary(
    tmp_path: Path, server_type: type[ValkeyServer]
) -> None:
    """The old one is a replica now: idle connections to it go, and no command fails for them."""
    with server_type(tmp_path / "a") as old, server_type(tmp_path / "b") as new:
        async with (
            FaultProxy("127.0.0.1", old.port).running() as proxy,
            open_redis(settings_of(proxy.port)) as client,
        ):
            # All of the pool's connections lead to the old primary.
            await asyncio.gather(*(client.blpop(["none"], 0.2) for _ in range(8)))
            async with redis.asyncio.Redis.from_url(old.url) as direct:
                await direct.replicaof("127.0.0.1", new.port)
                proxy.switch("127.0.0.1", new.port)
                await asyncio.gather(
                    *(send_all(client, [("INCR", "sent")]) for _ in range(20)),
                    *(client.incr("called") for _ in range(20)),
                )
                assert await client.mget("sent", "called") == [b"20", b"20"]
                # Other clients of the old one: ours here, and the new primary's link if any.
                clients = await direct.client_list(_type="normal")
            assert [one["id"] for one in clients] == [clients[0]["id"]]


@pytest.mark.parametrize("server_type", [ValkeyServer, Redis62Server])
async def test_a_replica_that_refuses_a_script_is_told_apart(
    tmp_path: Path, server_type: type[ValkeyServer]
) -> None:
    """Also by Redis 6.2, which hides it in a script error: nothing has been done."""
    with server_type(tmp_path / "a") as server:
        async with open_redis(settings_of(server.port)) as client:
            await client.replicaof("127.0.0.1", 1)
            with pytest.raises(WrongServer):
                await client.eval("return redis.call('INCR', KEYS[1])", 1, "key")
            with pytest.raises(DependencyUnavailable), redis_faults():
                await client.incr("key")
            await client.replicaof("NO", "ONE")
            assert await client.get("key") is None


async def test_a_write_that_waits_while_its_server_is_demoted_has_an_unknown_outcome(
    tmp_path: Path,
) -> None:
    """It was done, and must not be told as refused by the replica that the server is now."""
    with ValkeyServer(tmp_path / "a") as server:
        async with (
            open_redis(settings_of(server.port)) as client,
            redis.asyncio.Redis.from_url(server.url) as direct,
        ):

            async def write() -> None:
                pipeline = client.pipeline(transaction=False)
                pipeline.set("key", "value")
                pipeline.execute_command("WAIT", 1, 0)
                with redis_faults(effect_unknown=True):
                    await pipeline.execute()

            async def waiting() -> int:
                return int((await direct.info("clients"))["blocked_clients"])

            writing = asyncio.create_task(write())
            await eventually(waiting)
            await direct.replicaof("127.0.0.1", 1)
            with pytest.raises(OutcomeUnknown):
                await writing
            assert await direct.get("key") == b"value"


async def test_a_script_error_is_no_reason_to_leave_a_server(redis_url: str) -> None:
    """Its connection stays."""
    settings = RedisSettings(redis_url=SecretStr(redis_url), redis_connections_max=1)
    async with open_redis(settings) as client:
        number = await client.client_id()
        with pytest.raises(ResponseError):
            await client.eval("return redis.error_reply('ERR READONLY is not said here')", 0)
        assert await client.client_id() == number


async def test_a_server_is_writable_unless_it_refuses_writes_for_more_than_memory(
    tmp_path: Path,
) -> None:
    """A replica answers PING and is not; one that is full is, for operators must reach it."""
    with ValkeyServer(tmp_path / "a") as server:
        async with open_redis(settings_of(server.port)) as client:
            await client.config_set("maxmemory", 1)
            await check_writable(client)
            await client.replicaof("127.0.0.1", 1)
            assert await client.ping()
            with pytest.raises(DependencyUnavailable):
                await check_writable(client)
            await client.replicaof("NO", "ONE")
            await check_writable(client)


async def test_a_server_that_answers_no_more_is_left_with_all_connections(redis_url: str) -> None:
    """The readiness check finds it out, and no command after it waits for a frozen connection."""
    address, _, database = redis_url.removeprefix("redis://").partition("/")
    host, _, port = address.partition(":")
    async with (
        FaultProxy(host, int(port)).running() as proxy,
        open_redis(settings_of(proxy.port, database=database)) as client,
    ):
        await asyncio.gather(*(client.blpop(["none"], 0.2) for _ in range(8)))
        proxy.freeze()
        with pytest.raises(DependencyUnavailable):
            await check_writable(client)
        async with asyncio.timeout(1.0):
            await asyncio.gather(*(client.get("key") for _ in range(20)))


async def test_a_connection_is_made_again_at_its_age(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stay for ever on a server to which the address does not lead any more."""
    monkeypatch.setattr("seckill.runtime.redis_pool.CONNECTION_AGE_MAX_S", 0.1)
    host, port = redis_address(redis_url)
    with ValkeyServer(tmp_path / "next") as server:
        async with FaultProxy(host, port).running() as proxy:
            settings = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{proxy.port}/0"))
            async with (
                open_redis(settings) as client,
                redis.asyncio.Redis.from_url(server.url) as direct,
            ):
                key = new_id("key")
                await direct.set(key, "there")
                assert await client.get(key) is None
                proxy.switch("127.0.0.1", server.port)
                assert await eventually(lambda: client.get(key)) == b"there"
