"""The plots of docs/capacity.md."""

from collections.abc import Mapping, Sequence

import pygal  # type: ignore[import-untyped]

from bench.plots import options, picture
from seckill_cli.scale.costs import STAGES

NAMES = {
    "edge": "Envoy",
    "gateway": "gateway",
    "inventory": "inventory",
    "redis": "Redis",
    "kafka": "Kafka",
    "order": "order",
    "postgres": "Postgres",
}
# What one process of each stage does is shown up to here.
USE_MAX = 1.0


def use_of_one(curve: Sequence[tuple[float, Mapping[str, float]]]) -> bytes:
    """Draw the use of each stage against attempts a second, with one process of each."""
    plot = pygal.XY(
        **options(
            title="Use of its core, one process of each stage",
            height=420,
            x_title="attempts a second, one in ten reserves",
            dots_size=3,
            stroke_style={"width": 2},
            range=(0, USE_MAX),
            xrange=(0, max(rate for rate, _ in curve)),
            x_labels=[0, 2_500, 5_000, 7_500, 10_000, 12_500],
            truncate_label=-1,
            include_x_axis=True,
            x_value_formatter=lambda value: f"{value:,.0f}",
            value_formatter=lambda value: f"{value:.0%}",
            show_x_guides=False,
        )
    )
    for stage in STAGES:
        points = [(rate, min(USE_MAX, used[stage])) for rate, used in curve]
        if any(used for _, used in points):
            plot.add(NAMES[stage], points)
    return picture(plot)


def cores_by_rate(sizes: Sequence[tuple[float, Mapping[str, int]]]) -> bytes:
    """Draw the cores that rates of attempts take, stacked by stage."""
    plot = pygal.StackedBar(
        **options(
            title="Cores that a rate of attempts takes",
            height=420,
            x_title="attempts a second, one in ten reserves",
            value_formatter=lambda value: f"{value:.0f}",
        )
    )
    plot.x_labels = [f"{rate:,.0f}" for rate, _ in sizes]
    for stage in STAGES:
        counts = [needed.get(stage, 0) for _, needed in sizes]
        if any(counts):
            plot.add(NAMES[stage], counts)
    return picture(plot)
