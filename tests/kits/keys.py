"""Wait for a change of a Redis key by the notification that Redis sends of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis.asyncio

from inventory_svc.keys import outbox_key
from seckill.runtime.redis_client import server_of
from tests.kits.waiting import TIMEOUT_S

T = TypeVar("T")
# What changes without a change of the key is seen after this time.
LOOK_EVERY_S = 1.0


async def until_key(
    client: "redis.asyncio.Redis",
    key: str,
    look: Callable[[], Awaitable[T]],
    is_it: Callable[[T], bool] = bool,
    *,
    timeout_s: float = TIMEOUT_S,
) -> T:
    """Look now and after each change of a key, until `is_it` accepts what is seen; return that.

    Raises:
        AssertionError: nothing was accepted within `timeout_s`; names what was seen last.
    """
    # A node of a cluster tells of its own keys only.
    reader: Any = client  # may be redis-py's own client of a cluster, which is no subclass
    if isinstance(reader, redis.asyncio.RedisCluster):
        node = (await reader.initialize()).get_node_from_key(key)
        assert node is not None
        async with redis.asyncio.Redis(host=node.host, port=int(node.port)) as owner:
            return await until_key(owner, key, look, is_it, timeout_s=timeout_s)
    client = await server_of(client, key)
    await client.config_set("notify-keyspace-events", "KA")
    database = client.connection_pool.connection_kwargs.get("db") or 0
    async with client.pubsub(ignore_subscribe_messages=True) as changes:
        await changes.subscribe(f"__keyspace@{database}__:{key}")
        seen = await look()
        try:
            async with asyncio.timeout(timeout_s):
                while not is_it(seen):
                    await changes.get_message(timeout=LOOK_EVERY_S)
                    seen = await look()
        except TimeoutError:
            raise AssertionError(f"still {seen!r} after {timeout_s} s") from None
    return seen


async def until_drained(client: "redis.asyncio.Redis", sku: str) -> None:
    """Wait until the outbox of a sale has no entry, read or unread."""
    key = outbox_key(sku)
    await until_key(client, key, lambda: client.xlen(key), lambda length: length == 0)
