"""Spin visits every state of the model of buckets.pml, and finds each bug that is planted in it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("buckets.pml")
TIMEOUT_S = 150
# Megabytes; and steps of one history.
MEMORY_MAX, DEPTH_MAX = 4_000, 100_000
pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="needs spin and gcc: make packages",
)
# Bounds with which each part of the model is finished within a minute.
TRANSFERS = ("-DBUCKETS=3", "-DTOTAL=3", "-DMOVES=1", "-DLOOKS=0")
REPEATED = ("-DMOVES=2", "-DLOOKS=0")
SOLD_OUT = ("-DMOVES=1", "-DLOOKS=1")
REBUILDS = ("-DMOVES=1", "-DLOOKS=0", "-DRETURNS=0", "-DLOSSES=1", "-DREBUILDS=2")


def verify(directory: Path, *defines: str) -> tuple[int, str]:
    """(Errors found, what the verifier said) of the model with these definitions."""
    subprocess.run(
        ["spin", "-a", *defines, MODEL], cwd=directory, check=True, timeout=60, capture_output=True
    )
    flags = ["-w", "-O2", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MAX}"]
    subprocess.run(["gcc", *flags, "-o", "pan", "pan.c"], cwd=directory, check=True, timeout=120)
    told = subprocess.run(
        ["./pan", f"-m{DEPTH_MAX}", "-n"],
        cwd=directory,
        check=False,
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"errors: (\d+)", told)
    assert found is not None, told
    assert "max search depth too small" not in told
    return int(found[1]), told


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds",
    [TRANSFERS, REPEATED, SOLD_OUT, REBUILDS],
    ids=["three buckets", "repeated transfers", "sold out", "rebuilds"],
)
def test_no_unit_is_lost_doubled_or_stranded(bounds: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever stops, is repeated or comes late, in every order."""
    errors, told = verify(tmp_path, *bounds)

    assert errors == 0, told
    assert "Search not completed" not in told


@pytest.mark.parametrize(
    ("bug", "bounds"),
    [
        ("TAKE_TWICE", REPEATED),
        ("SETTLE_FIRST", REPEATED),
        ("ONE_LOOK", SOLD_OUT),
        ("STOCK_LATER", (*SOLD_OUT, "-DRETURNS=1")),
        ("NO_EPOCH", REBUILDS),
        ("SETTLE_ANY_EPOCH", REBUILDS),
        ("NO_BAR", REBUILDS),
    ],
)
def test_a_planted_bug_is_found(bug: str, bounds: tuple[str, ...], tmp_path: Path) -> None:
    """The model is fine enough to tell the protocol from one that lacks a rule."""
    errors, told = verify(tmp_path, *bounds, f"-DBUG_{bug}")

    assert errors == 1, told
    assert "assertion violated" in told
