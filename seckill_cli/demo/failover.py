"""In a Redis Cluster: a master that has the sale, or a bucket of it, dies at half time."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import redis.asyncio
from rich.console import Console

from devstack import StackState
from seckill_cli.demo.verdict import cluster_client, prefix, sale_tags
from seckill_cli.demo.wave import HEAD_START_S


@asynccontextmanager
async def master_killed(
    state: StackState, sku: str, console: Console, *, seconds: float
) -> AsyncIterator[None]:
    """Kill the sale's master in the middle of the arrivals, if Redis is a cluster started here.

    Args:
        seconds: within which the buyers arrive.
    """
    if not state.stores.redis_cluster:
        yield
        return
    task = asyncio.create_task(_kill(state, sku, console, after_s=HEAD_START_S + seconds / 2))
    try:
        yield
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _kill(state: StackState, sku: str, console: Console, *, after_s: float) -> None:
    async with cluster_client(state.stores) as client:
        tags = await sale_tags(cast("redis.asyncio.Redis", client), sku)
        master = client.get_node_from_key(f"{prefix()}:stock:{{{tags[0]}}}")
    address = f"{master.host}:{master.port}" if master else ""
    pids = [process.pid for process in state.processes if process.address == address]
    await asyncio.sleep(after_s)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        of = f"the first of {len(tags)} buckets" if len(tags) > 1 else "the sale"
        console.print(f"killed the master of {of}, {address}; it comes back as a replica")
