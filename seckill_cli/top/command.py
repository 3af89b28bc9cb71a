"""`seckill top [SKU]`: one sale live in a terminal."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Annotated

import grpc
import typer
from rich.live import Live

from seckill_cli import display
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import (
    InventoryOption,
    OrderOption,
    aio_channel_to,
    local_state,
    target_of,
)
from seckill_cli.top.picture import draw
from seckill_cli.top.sampler import Sampler

console = display.console()
INTERVAL_S = 0.5


def top(
    sku: Annotated[
        str, typer.Argument(help="Sku of the sale.", show_default="the one that started last")
    ] = "",
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            envvar="SECKILL_METRICS",
            help="Where a service exports its metrics, host:port or URL; for each replica.",
            show_default="those of the local stack",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one picture, and end.")] = False,
    inventory: InventoryOption = "",
    order: OrderOption = "",
) -> None:
    """Show one sale live: units, attempts, what is on its way. Ends with Ctrl-C.

    Without a terminal it prints one picture.
    """
    addresses = metrics or local_metrics(inventory, order)
    targets = target_of("inventory", inventory), target_of("order", order)
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(sku, targets, addresses, once=once or not console.is_terminal))


def local_metrics(*given: str) -> list[str]:
    """Return where the local stack's services export; none if other addresses were given."""
    state = None if any(given) else local_state()
    return [process.metrics for process in state.processes if process.metrics] if state else []


async def _watch(sku: str, targets: tuple[str, str], metrics: Sequence[str], *, once: bool) -> None:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(aio_channel_to(*one))
            for one in zip(("inventory", "order"), targets, strict=True)
        ]
        sampler = Sampler(inventory=channels[0], order=channels[1], metrics=metrics)
        sku = sku or await _latest(sampler)
        # Two, for a rate.
        for _ in range(2):
            sample = await sampler.take(sku)
            if sample.sale is None and sample.totals is None:
                raise CommandFailed("; ".join(sample.problems))
            await asyncio.sleep(INTERVAL_S)
        if once:
            console.print(draw(sku, sampler.samples))
            return
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                await sampler.take(sku)
                live.update(draw(sku, sampler.samples), refresh=True)
                await asyncio.sleep(INTERVAL_S)


async def _latest(sampler: Sampler) -> str:
    try:
        sku = await sampler.latest_sku()
    except grpc.aio.AioRpcError as error:
        raise CommandFailed(
            f"the inventory service does not answer: {error.code().name}: {error.details()}"
        ) from error
    if not sku:
        raise CommandFailed("there is no sale")
    return sku
