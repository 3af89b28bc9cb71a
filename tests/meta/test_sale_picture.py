"""The picture of a demo's sale, drawn from what a demo records."""

from xml.etree import ElementTree as ET

from tools.observability.sale_picture import ATTEMPTS, UNITS, picture


def test_the_picture_has_every_series_of_both_charts() -> None:
    """As SVG that a browser reads without scripts."""
    series = [
        {"seconds": float(second), "remaining": 10.0 - second, "paid": float(second)}
        | {name: 5.0 * second for name, _ in ATTEMPTS}
        for second in range(5)
    ]
    drawn = picture({"stock": 10, "buyers": 100, "series": series})
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert len(root) == 2
    for _, shown in (*UNITS, *ATTEMPTS):
        assert shown in drawn
    assert "<script" not in drawn
