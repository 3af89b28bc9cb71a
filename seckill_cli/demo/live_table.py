"""The live table: attempts, stock and orders while the demo runs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from rich.columns import Columns
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from devstack import Stores
from seckill_cli.demo.scenario import Answer, Scenario
from seckill_cli.demo.verdict import StoreTotals, read_totals

REFRESH_S = 0.5


def render(scenario: Scenario, counts: Mapping[Answer, int], totals: StoreTotals | None) -> Columns:
    """Return one picture of the sale."""
    attempts = Table.grid(padding=(0, 2))
    for answer, count in counts.items():
        if count:
            attempts.add_row(answer.value.replace("_", " "), f"[bold]{count:,}")
    attempts.add_row("all attempts", f"[bold]{sum(counts.values()):,}")
    stock = Table.grid(padding=(0, 2))
    remaining = totals.remaining if totals else scenario.stock
    stock.add_row("left", f"[bold]{remaining:,}[/] of {scenario.stock:,}")
    stock.add_row("", ProgressBar(total=scenario.stock, completed=max(0, remaining), width=24))
    stock.add_row("came back", f"[bold]{totals.restored if totals else 0:,}")
    orders = Table.grid(padding=(0, 2))
    states = Counter(state for _, _, state, _ in totals.orders) if totals else Counter[str]()
    for state in ("pending", "paid", "cancelled"):
        orders.add_row(state, f"[bold]{states[state]:,}")
    return Columns(
        [
            Panel(attempts, title="attempts"),
            Panel(stock, title="stock"),
            Panel(orders, title="orders"),
        ]
    )


async def watch(
    live: Live,
    *,
    stores: Stores,
    sku: str,
    scenario: Scenario,
    counts: Callable[[], Mapping[Answer, int]],
    over: asyncio.Event,
) -> None:
    """Keep the picture true until `over`; `counts` tells the attempts by answer so far.

    Ended by an event: drivers have been seen to swallow a cancellation.
    """
    while not over.is_set():
        try:
            totals = await read_totals(stores, sku)
        except OSError:  # a store that is being restarted: show the last counts
            totals = None
        live.update(render(scenario, counts(), totals))
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), REFRESH_S)
