"""Redis in a state that a test wants: empty, full, without writes; each master of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from seckill.runtime.redis_client import servers_of

# Longer than any test.
PAUSE_MS = 60_000


async def on_each_server(
    client: "redis.asyncio.Redis", act: Callable[["redis.asyncio.Redis"], Awaitable[Any]]
) -> list[Any]:
    """Do the same at each server that has keys, and return what each answered."""
    return await asyncio.gather(*(act(server) for server in await servers_of(client)))


async def empty(client: "redis.asyncio.Redis") -> None:
    """Remove all keys of its database."""
    await on_each_server(client, lambda server: server.flushdb())


@asynccontextmanager
async def full(client: "redis.asyncio.Redis") -> AsyncIterator[None]:
    """Let Redis refuse, for the time of the block, whatever needs memory."""
    try:
        await on_each_server(client, lambda server: server.config_set("maxmemory", "1"))
        yield
    finally:
        await on_each_server(client, lambda server: server.config_set("maxmemory", "0"))


@asynccontextmanager
async def without_writes(client: "redis.asyncio.Redis") -> AsyncIterator[None]:
    """Let writes wait for the time of the block; reads are answered."""
    try:
        await on_each_server(client, lambda server: server.client_pause(PAUSE_MS, all=False))
        yield
    finally:
        await on_each_server(client, lambda server: server.client_unpause())
