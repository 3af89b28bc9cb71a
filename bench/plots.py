"""The plots of bench/README.md: SVG files that read well on white and on black."""

import sys
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

# pygal looks for plugins by a hook of a kind that Python warns of at every further import.
sys.meta_path[:] = [hook for hook in sys.meta_path if hasattr(hook, "find_spec")]
# Shades between both backgrounds, so that each stands out on either.
COLOURS = (
    "#3b82c4",
    "#e08a1e",
    "#2f9e6e",
    "#c4548f",
    "#8a6fd1",
    "#b8a01a",
    "#d1584a",
    "#4aa5b5",
    "#8b8f98",
)
FAINT = "#8b949e"
ON_WHITE, ON_BLACK = "#24292f", "#e6edf3"
# Figures follow their bars. The picture has no background of its own, so the colour of its text
# depends on whether the reader's browser shows dark pages.
FURTHER_CSS = f"""inline:
text.value {{ text-anchor: start; }}
@media (prefers-color-scheme: dark) {{ text {{ fill: {ON_BLACK} !important; }} }}"""
STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground=ON_WHITE,
    foreground_strong=ON_WHITE,
    foreground_subtle=FAINT,
    guide_stroke_color=FAINT,
    major_guide_stroke_color=FAINT,
    opacity="1",
    colors=COLOURS,
    font_family="system-ui, sans-serif",
    title_font_size=18,
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=13,
    value_font_size=12,
)
QUANTILES = ("p50", "p95", "p99", "p99.9")
SHARES = ("purchase_at_25", "purchase_at_50", "purchase_at_75", "purchase_at_90")
# Samples side by side, and what they are called; processes from the caller inwards.
COSTS = {
    "echo": "grpc.aio echo",
    "purchase": "purchase",
    "rival_purchase": "purchase, Go",
    "purchase_json": "purchase, JSON",
    "purchase_json_door": "the same, no Envoy",
    "rival_purchase_json": "purchase, JSON, Go",
    "order": "whole order",
    "crowd": "crowd",
    "rival_crowd": "crowd, Go",
    "sold_out": "refusal",
    "storm": "refusal by Envoy",
    "storm_json": "the same, JSON",
}
PROCESSES = {
    "echo": ("echo",),
    "Envoy, agent": ("edge", "edge-agent"),
    "gateway": ("gateway",),
    "inventory": ("inventory",),
    "Redis": ("redis",),
    "Go rival": ("rival",),
    "Kafka": ("kafka",),
    "order": ("order",),
    "Postgres": ("postgres",),
}
# Beyond this many times the aim a bar says no more.
AIMS_MAX = 3.0


def draw(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The plots that this document has figures for, by the names of their files."""
    plots = {
        "ratios": _ratios(document),
        "cpu": _costs(document),
        "latency": _latency(document),
        "overload": _overload(document),
    }
    return {name: picture(plot) for name, plot in plots.items() if plot is not None}


def picture(plot: Any) -> bytes:
    """Return a plot as SVG; without scripts, which would not run in a picture, and without the
    day's date.
    """
    tree = plot.render_tree()
    for head in tree.iter("defs"):
        for script in head.findall("script"):
            head.remove(script)
    for remark in [child for child in tree if not isinstance(child.tag, str)]:
        tree.remove(remark)
    text: bytes = ET.tostring(tree, encoding="utf-8")
    return text


def options(**more: Any) -> dict[str, Any]:
    """Return what all plots have in common, and `more`."""
    return {
        "style": STYLE,
        "css": ["file://style.css", "file://graph.css", FURTHER_CSS],
        "js": [],
        "show_legend": True,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 5,
        "margin_bottom": 45,
        "truncate_legend": -1,
        "pretty_print": True,
        # Ids of its own would make each file differ from the last one.
        "no_prefix": True,
        **more,
    }


def _ratios(document: Mapping[str, Any]) -> Any:
    """Each key as a share of its aim."""
    figures = document["figures"]
    if not figures:
        return None
    # The first one stands at the top.
    keys = list(reversed(figures))
    plot = pygal.HorizontalBar(
        **options(
            title="Ratios: 1 is the aim",
            height=80 + 32 * len(keys),
            show_legend=False,
            print_values=True,
            print_values_position="top",
            y_labels=[0, 1, 2, AIMS_MAX],
            range=(0, AIMS_MAX),
            truncate_label=-1,
            margin_right=90,
        )
    )
    plot.x_labels = keys
    plot.add("", [_share_of_aim(figures[key]) for key in keys])
    return plot


def _share_of_aim(one: Mapping[str, Any]) -> dict[str, Any]:
    """A bar: above 1 the aim is reached, whichever way it lies."""
    value, aim = one["value"], one["aim"]
    share = value / aim if not one["at_most"] else aim / value if value else AIMS_MAX
    text = f"\N{NO-BREAK SPACE}{value:.2f} ({'≤' if one['at_most'] else '≥'} {aim:g})"
    colour = COLOURS[2] if one["reached"] else COLOURS[1]
    return {
        "value": min(share, AIMS_MAX),
        "formatter": lambda _: text,
        "color": colour,
    }


def _costs(document: Mapping[str, Any]) -> Any:
    """Microseconds of CPU by process, stacked."""
    costs = document["cpu_us_per_attempt"]
    names = [name for name in COSTS if name in costs]
    if not names:
        return None
    plot = pygal.HorizontalStackedBar(
        **options(
            title="Microseconds of CPU for each call, by process",
            height=160 + 36 * len(names),
            truncate_label=-1,
        )
    )
    names.reverse()
    plot.x_labels = [COSTS[name] for name in names]
    for process, parts in PROCESSES.items():
        values = [sum(costs[name].get(part, 0.0) for part in parts) for name in names]
        if any(values):
            plot.add(process, [value or None for value in values])
    return plot


def _latency(document: Mapping[str, Any]) -> Any:
    """Latency against the offered load, in an open loop."""
    measured = [name for name in SHARES if name in document["latency_ms"]]
    if not measured:
        return None
    rates = {name: document["rates"][name] for name in measured}
    plot = pygal.XY(
        **options(
            title="Latency of purchases, from when each was due",
            height=420,
            x_title="offered, per second",
            y_title="ms",
            dots_size=4,
            stroke_style={"width": 2},
            xrange=(0, 1.1 * max(rates.values())),
            include_x_axis=True,
            x_value_formatter=lambda value: f"{value:,.0f}",
            value_formatter=lambda value: f"{value:g}",
            show_x_guides=False,
        )
    )
    for at in QUANTILES:
        points = [(rates[name], document["latency_ms"][name][at]) for name in measured]
        plot.add(at, points)
    return plot


def _overload(document: Mapping[str, Any]) -> Any:
    """What is answered in time against what is offered, both in multiples of the own peak."""
    curves = document["curves"]
    if not curves:
        return None
    plot = pygal.XY(
        **options(
            title="Answered within a second, against what is offered",
            height=420,
            x_title="offered, in multiples of the peak",
            y_title="answered in time, per peak",
            dots_size=4,
            stroke_style={"width": 3},
            xrange=(0, 10),
            range=(0, 1.1),
            x_labels=[0, 1, 2, 3, 5, 7, 10],
            y_labels=[0, 0.25, 0.5, 0.75, 1],
            include_x_axis=True,
            x_value_formatter=lambda value: f"{value:g}",
            value_formatter=lambda value: f"{value:.2f}",
            show_x_guides=False,
        )
    )
    for title, points in curves.items():
        plot.add(title, [(offered, good) for offered, good in points])
    return plot
