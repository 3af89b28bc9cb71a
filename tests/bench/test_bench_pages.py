"""The drill of bench/pages: what a browser asks for, and what the figures say."""

import json
from pathlib import Path

import pytest

from bench.pages.browsers import files_of, words_of
from bench.pages.figures import Pair, figures
from bench.sample import Sample
from edge.pages import build


def sample(rate_per_s: float, *, gateway_us: float = 100.0, unfit: str = "") -> Sample:
    """Return a second of purchases."""
    calls = int(rate_per_s)
    cpu_s = {"gateway": gateway_us * calls / 1e6, "edge": 0.1}
    return Sample(calls=calls, seconds=1.0, cpu_s=cpu_s, unfit=unfit)


def pair(without: Sample, with_pages: Sample) -> Pair:
    """Return a pair whose browsers looked twice a second."""
    return Pair(without, with_pages, {"seconds": 2.0, "looks": 4, "failed": 0})


def test_a_browser_asks_for_all_that_the_page_needs(tmp_path: Path) -> None:
    """Scripts, styles, the icon, and the English words of its first view."""
    build(tmp_path)
    page = (tmp_path / "sale" / "index.html").read_text()
    names = files_of(page)
    scripts = [(tmp_path / name.lstrip("/")).read_text() for name in names if name.endswith(".js")]
    assert {Path(name).name.partition(".")[0] for name in names} >= {
        "sale",
        "store",
        "icon",
        "i18n",
    }
    words = words_of(scripts)
    assert len(words) == 2
    said = [json.loads((tmp_path / word.lstrip("/")).read_text()) for word in words]
    assert {"skip", "button.open"} <= {key for texts in said for key in texts}


def test_the_ratio_is_of_pairs_and_its_range_is_told() -> None:
    """What two measurements without pages differ by is what cannot be measured."""
    found = figures(
        [
            pair(sample(1_000), sample(990)),
            pair(sample(1_040), sample(1_040)),
            pair(sample(1_000), sample(1_010)),
        ]
    )
    assert (found["ratio"], found["ratio_range"]) == (1.0, [0.99, 1.01])
    assert found["noise"] == 0.04
    assert not found["measurable"]
    assert found["gateway_cpu_ratio"] == pytest.approx(1.0)
    assert found["traffic_per_s"] == {"looks": 2.0, "failed": 0.0}


def test_a_cost_that_is_larger_than_the_noise_is_measurable() -> None:
    """A tenth is, where repetitions are alike."""
    found = figures([pair(sample(1_000), sample(900, gateway_us=110.0)) for _ in range(3)])
    assert (found["ratio"], found["measurable"]) == (0.9, True)
    assert found["gateway_cpu_ratio"] == pytest.approx(1.1)


def test_pairs_that_are_unfit_do_not_count_unless_there_are_no_others() -> None:
    """Then the document says so."""
    busy = pair(sample(1_000), sample(500, unfit="others had 0.50 cores"))
    found = figures([busy, pair(sample(1_000), sample(1_000))])
    assert (found["fit"], found["pairs"], found["ratio"]) == (True, 1, 1.0)
    found = figures([busy])
    assert (found["fit"], found["unfit"]) == (False, "others had 0.50 cores")
