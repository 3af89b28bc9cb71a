"""Draw a demo's sale for docs/: `seckill demo`, then `python -m tools.observability.sale_picture`.

From the series that the demo has recorded in .seckill/demo.json: what Grafana's dashboard "One
sale" shows, for those who have none.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

from devstack import LocalSettings
from tools.install import ROOT

# pygal looks for plugins by a hook of a kind that Python warns of at every further import.
sys.meta_path[:] = [hook for hook in sys.meta_path if hasattr(hook, "find_spec")]
# pygal's own, for pages that have its library.
SCRIPT = re.compile(r"<script.*?</script>", re.DOTALL)
PICTURE = ROOT / "docs" / "pictures" / "demo-sale.svg"
STYLE = Style(
    background="white",
    plot_background="white",
    colors=("#2e7d32", "#f9a825", "#1565c0", "#6a1b9a", "#c62828"),
    guide_stroke_color="#dddddd",
    major_guide_stroke_color="#dddddd",
    font_family="sans-serif",
    label_font_size=11,
    legend_font_size=12,
    title_font_size=14,
)
# Series of a chart, and what they are called.
Lines = Sequence[tuple[str, str]]
UNITS: Lines = (
    ("remaining", "left"),
    ("pending", "to be paid"),
    ("paid", "paid"),
    ("restored", "came back, in all"),
)
ATTEMPTS: Lines = (
    ("reserved_per_s", "reserved"),
    ("sold_out_per_s", "sold out"),
    ("already_purchased_per_s", "already purchased"),
    ("shed_per_s", "refused unheard"),
    ("failed_per_s", "failed"),
)


def chart(title: str, series: Sequence[dict[str, float]], lines: Lines) -> Any:
    """Return a chart of some lines over the seconds of the demo."""
    drawn = pygal.XY(
        title=title,
        x_title="seconds",
        style=STYLE,
        show_dots=False,
        stroke_style={"width": 2},
        xrange=(0, series[-1]["seconds"]),
        width=900,
        height=330,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(lines),
        js=[],
        include_x_axis=True,
    )
    for name, shown in lines:
        drawn.add(shown, [(one["seconds"], one[name]) for one in series if name in one])
    return drawn


def since_the_first_attempt(series: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return the series from just before the first attempt on, whose second is 0."""
    busy = [
        place for place, one in enumerate(series) if any(one.get(name, 0.0) for name, _ in ATTEMPTS)
    ]
    first = max(0, busy[0] - 1) if busy else 0
    start_s = series[first]["seconds"]
    return [one | {"seconds": round(one["seconds"] - start_s, 2)} for one in series[first:]]


def picture(summary: dict[str, Any]) -> str:
    """Return both charts, one above the other, as SVG."""
    series = since_the_first_attempt(summary["series"])
    sold_out_s = next((one["seconds"] for one in series if one["remaining"] == 0), None)
    when = "never sold out" if sold_out_s is None else f"sold out after {sold_out_s:.1f} s"
    back, shed = summary["restored_units"], summary["refused"]
    charts = [
        chart(
            f"A sale of {summary['stock']:,} units: {when}, {back:,} came back and were sold again",
            series,
            UNITS,
        ),
        chart(
            f"Attempts of {summary['buyers']:,} buyers a second: {summary['reserved']:,} reserved,"
            f" {summary['sold_out']:,} sold out, {shed:,} refused for good",
            series,
            ATTEMPTS,
        ),
    ]
    parts = [
        SCRIPT.sub("", one.render(is_unicode=True, disable_xml_declaration=True)).replace(
            "<svg ", f'<svg y="{place * 330}" width="900" height="330" ', 1
        )
        for place, one in enumerate(charts)
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="900" height="660" viewBox="0 0 900 660">{"".join(parts)}</svg>\n'
    )


def main() -> int:
    """Draw it; the exit status."""
    path = Path(LocalSettings.from_env().directory) / "demo.json"
    if not path.exists():
        sys.stderr.write(f"{path} is missing: run `make demo` first\n")
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)} is drawn\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
