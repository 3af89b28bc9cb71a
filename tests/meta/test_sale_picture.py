"""The picture of a demo's sale, drawn from what a demo records."""

from xml.etree import ElementTree as ET

from tools.observability.sale_picture import ATTEMPTS, UNITS, picture, since_the_first_attempt

SERIES = [
    {"seconds": 2.0 * second, "remaining": max(0.0, 10.0 - 5 * second), "paid": float(second)}
    | {name: 5.0 * max(0, second - 1) for name, _ in ATTEMPTS}
    for second in range(5)
]
SUMMARY = {
    "stock": 10,
    "buyers": 100,
    "restored_units": 4,
    "refused": 3,
    "reserved": 14,
    "sold_out": 90,
    "series": SERIES,
}


def test_the_picture_has_every_series_of_both_charts() -> None:
    """As SVG that a browser reads without scripts; it says when it was sold out."""
    drawn = picture(SUMMARY)
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert len(root) == 2
    for _, shown in (*UNITS, *ATTEMPTS):
        assert shown in drawn
    assert "sold out after 2.0 s, 4 came back" in drawn
    assert "<script" not in drawn


def test_time_starts_with_the_first_attempt() -> None:
    """The demo opens its sale some seconds before."""
    assert [one["seconds"] for one in since_the_first_attempt(SERIES)] == [0.0, 2.0, 4.0, 6.0]
