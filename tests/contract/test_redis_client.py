"""Commands sent in one go, on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from pydantic import SecretStr
from redis.exceptions import ResponseError

from seckill.redis_client import open_redis, send_all
from seckill.settings import RedisSettings
from tests.factories import new_id


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """With one connection, so that whoever leaves a reply behind is found out."""
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
    """The others run, and the next caller gets his own reply."""
    key = new_id("key")
    with pytest.raises(ResponseError):
        await send_all(client, [("SET", key, "x"), ("INCR", key), ("APPEND", key, "y")])
    assert await send_all(client, [("GET", key)]) == [b"xy"]


async def test_a_call_broken_off_leaves_no_reply_to_the_next(client: "redis.asyncio.Redis") -> None:
    """Cancelled at any point: the next caller on the only connection gets his own reply."""
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
