"""Watches the demo's sale: on a terminal one sees it, and the report keeps it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rich.console import Console
from rich.live import Live

from devstack import StackState
from seckill_cli.mesh import aio_channel_to
from seckill_cli.top.command import INTERVAL_S
from seckill_cli.top.picture import draw
from seckill_cli.top.sampler import Sampler


@asynccontextmanager
async def watched(state: StackState, sku: str, console: Console) -> AsyncIterator[Sampler]:
    """Sample the sale until the block ends; if `console` is a terminal, show it, too."""
    addresses = {process.name: process.address for process in state.processes}
    metrics = [process.metrics for process in state.processes if process.metrics]
    async with (
        aio_channel_to("inventory", addresses["inventory"]) as inventory,
        aio_channel_to("order", addresses["order"]) as order,
    ):
        sampler = Sampler(inventory=inventory, order=order, metrics=metrics)
        await sampler.take(sku)
        over = asyncio.Event()
        watching = asyncio.create_task(_watch(sampler, sku, console, over))
        try:
            yield sampler
        finally:
            over.set()
            await watching


async def _watch(sampler: Sampler, sku: str, console: Console, over: asyncio.Event) -> None:
    if not console.is_terminal:
        while not await _pause(over):
            await sampler.take(sku)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while not await _pause(over):
            await sampler.take(sku)
            live.update(draw(sku, sampler.samples), refresh=True)


async def _pause(over: asyncio.Event) -> bool:
    """Wait for the next sample; return whether it is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(INTERVAL_S):
            await over.wait()
    return over.is_set()
