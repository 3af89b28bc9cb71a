"""Draws samples of a sale for a terminal."""

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seckill.v1 import sale_pb2
from seckill_cli.display import shown
from seckill_cli.top.sampler import Sample
from seckill_cli.top.series import latencies_ms, rates, sparkline

# Bars of a sparkline.
WIDTH = 40
# Samples of which the present rate is the mean.
RECENT = 4
# What each line of attempts is called, by its series.
ATTEMPTS = {
    "reserved": ("reserved", "green"),
    "sold_out": ("sold out", "yellow"),
    "already_purchased": ("already purchased", "cyan"),
    "other": ("other answers", "cyan"),
    "shed": ("refused unheard", "magenta"),
    "failed": ("failed", "red"),
}


def draw(sku: str, taken: Iterable[Sample]) -> RenderableType:
    """Return the picture of a sale; of all of its samples, the last one is now."""
    samples = list(taken)
    if not samples:
        return Text(f"waiting for {shown(sku)}")
    parts: list[RenderableType] = [
        Panel(_stock(samples), title=Text(f"{shown(sku)} {_state(samples)}"), title_align="left"),
        Panel(_attempts(samples), title="attempts a second", title_align="left"),
        Panel(_flow(samples), title="on its way", title_align="left"),
    ]
    parts += [Text(f"not read: {shown(problem)}", "red") for problem in samples[-1].problems]
    return Group(*parts)


def _bold(text: str, color: str = "") -> Text:
    # Not by markup: the console of the command has none.
    return Text(text, f"bold {color}".strip())


def _state(samples: Sequence[Sample]) -> str:
    sale = _latest_sale(samples)
    if sale is None:
        return ""
    if not sale.loaded:
        return "· Redis has lost it"
    now_s = time.time()
    start_s, end_s = (
        stamp.ToNanoseconds() / 1e9 for stamp in (sale.terms.start_time, sale.terms.end_time)
    )
    if sale.state != sale_pb2.SALE_STATE_OPEN:
        return f"· {sale_pb2.SaleState.Name(sale.state).removeprefix('SALE_STATE_').lower()}"
    if now_s < start_s:
        return f"· starts in {start_s - now_s:.0f} s"
    if now_s >= end_s:
        return "· over"
    return "· sold out" if sale.sold_out else "· sells"


def _latest_sale(samples: Sequence[Sample]) -> sale_pb2.Sale | None:
    return next((one.sale for one in reversed(samples) if one.sale is not None), None)


def _stock(samples: Sequence[Sample]) -> Table:
    rows = Table.grid(padding=(0, 2))
    sale = _latest_sale(samples)
    if sale is not None:
        left, total = sale.remaining_units, sale.terms.total_units
        bar = ProgressBar(total=max(1, total), completed=left, width=WIDTH)
        rows.add_row("left", Text.assemble(_bold(f"{left:,}"), f" of {total:,}"), bar)
    totals = next((one.totals for one in reversed(samples) if one.totals is not None), None)
    if totals is None:
        return rows
    returning = (
        totals.cancelled_units
        + totals.rejected_units
        + totals.refunded_units
        - totals.written_off_units
        - totals.restored_units
    )
    history = [one.totals for one in samples if one.totals is not None]
    lines = (
        ("to be paid", totals.pending_units, [one.pending_units for one in history]),
        ("paid", totals.paid_units, [one.paid_units for one in history]),
        ("came back", totals.restored_units, [one.restored_units for one in history]),
    )
    for name, value, values in lines:
        rows.add_row(name, _bold(f"{value:,}"), sparkline(values, width=WIDTH))
    if returning:
        rows.add_row("coming back", _bold(f"{returning:,}", "yellow"), "")
    if totals.sold_units > totals.total_units:
        oversold = totals.sold_units - totals.total_units
        rows.add_row("oversold", _bold(f"{oversold:,}", "red"), "")
    return rows


def _attempts(samples: Sequence[Sample]) -> Table:
    rows = Table.grid(padding=(0, 2))
    history = list(rates(samples))
    outcomes = samples[-1].exported.outcomes
    if not outcomes:
        rows.add_row("the gateways' metrics are not known: give --metrics")
        return rows
    for name, (title, color) in ATTEMPTS.items():
        values = [one[name] for one in history]
        if not any(values) and name not in ("reserved", "sold_out"):
            continue
        recent = values[-RECENT:]
        now = sum(recent) / len(recent) if recent else 0.0
        rows.add_row(title, _bold(f"{now:,.0f}"), Text(sparkline(values, width=WIDTH), color))
    latency = latencies_ms(samples[-WIDTH:])
    if latency:
        text = ", ".join(f"{name} {value:g} ms" for name, value in latency.items())
        rows.add_row("took", "", text)
    return rows


def _flow(samples: Sequence[Sample]) -> Table:
    rows = Table.grid(padding=(0, 2))
    history = [one.exported for one in samples]
    now = history[-1]
    age = f"the oldest for {now.outbox_age_s:.1f} s" if now.outbox else ""
    lines = (
        ("to Kafka", now.outbox, [one.outbox for one in history], age),
        ("to Postgres", now.lag, [one.lag for one in history], ""),
        ("due to come back", now.due, [one.due for one in history], ""),
    )
    for name, value, values, more in lines:
        rows.add_row(name, _bold(f"{value:,.0f}"), sparkline(values, width=WIDTH), more)
    if now.edge_shed_share:
        rows.add_row("shed by the edge", _bold(f"{now.edge_shed_share:.0%}", "magenta"), "", "")
    return rows
