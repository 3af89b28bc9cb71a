"""`python -m campaigns.proof`: does each fault test fail when the mechanism it guards is off?

tests/faults/README.md names, for each fault, the tests and a planted bug that switches their
mechanism off. Each row is run with its bug, and must fail. Exits with 1 if a test did not notice
its bug, with 2 if it could not be run.
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from campaigns.sabotage.registry import find
from tests.kits.planted_bug import RUNNER, VARIABLE

ROOT = Path(__file__).parents[1]
README = ROOT / "tests/faults/README.md"
TESTS = ROOT / "tests"
TIMEOUT_S = 400.0
# A test that waits until the stores agree need not wait for long: with its bug they never do.
CONVERGE_S = "8"
EXIT_NOT_DONE = 2
_TICKS = re.compile(r"`([^`]+)`")
_HEADER = "| Fault | Test | Fails with |"
console = Console()


@dataclass(frozen=True)
class Row:
    """A row of the README: the fault, its tests, and the bug that they notice, "" for none."""

    fault: str
    tests: Sequence[str]
    bug: str


@dataclass(frozen=True)
class Proof:
    """The result of a row: whether its tests failed, and with which words.

    `broken`: they could not be run.
    """

    row: Row
    failed: bool
    words: str
    broken: bool = False


def read_rows(text: str) -> Iterator[Row]:
    """Yield the rows of the README's table."""
    lines = iter(text.splitlines())
    for line in lines:
        if line == _HEADER:
            break
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        fault, tests, *bug = (cell.strip() for cell in line.strip("|").split(" | "))
        yield Row(fault, tuple(_nodes(tests)), "".join(_TICKS.findall("".join(bug))))


def _nodes(cell: str) -> Iterator[str]:
    """Yield node ids relative to `tests`; an ellipsis stands for the file named before."""
    file = ""
    for name in _TICKS.findall(cell):
        path, _, test = name.partition("::")
        if path != "…":
            file = path if "/" in path else f"faults/{path}"
        yield f"{file}::{test}"


def prove(row: Row) -> Proof:
    """Run the tests of a row with its bug planted, and return what they did."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        # Planted before pytest starts, so that services in the test's own process have it too.
        command = [sys.executable, "-m", RUNNER, row.bug, "pytest", "-x", "-q"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        command += [str(TESTS / test) for test in row.tests]
        environment = {
            **os.environ,
            VARIABLE: row.bug,
            "SECKILL_TEST_CONVERGE_S": CONVERGE_S,
        }
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Proof(row, failed=False, words=f"not done after {TIMEOUT_S:.0f} s", broken=True)
        if done.returncode not in {0, 1} or not report.exists():
            return Proof(row, failed=False, words=done.stdout[-300:], broken=True)
        return _judge(row, report)


def _judge(row: Row, report: Path) -> Proof:
    root = ET.parse(report).getroot()  # noqa: S314 - pytest's own
    # An error is not a failure: a test that could not be set up has noticed nothing.
    errors = [error.get("message", "") for error in root.iter("error")]
    failures = [failure.get("message", "") for failure in root.iter("failure")]
    if errors and not failures:
        return Proof(row, failed=False, words=_first_line(errors[0]), broken=True)
    words = _first_line(failures[0]) if failures else "it passes"
    return Proof(row, failed=bool(failures), words=words)


def _first_line(message: str) -> str:
    return " ".join(message.split())[:160]


def main(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only rows that have one of these in them.")
    ] = None,
) -> None:
    """Run every row that has a bug with that bug; exit with 1 unless all fail."""
    rows = [row for row in read_rows(README.read_text(encoding="utf-8")) if row.bug]
    for row in rows:
        find(row.bug)
    chosen = [row for row in rows if not words or any(word in str(row) for word in words)]
    proofs = []
    for row in chosen:
        proof = prove(row)
        proofs.append(proof)
        mark = "[green]fails[/]" if proof.failed else "[bold red]DOES NOT FAIL[/]"
        console.print(f"{mark} {row.fault} with {row.bug}: ", end="", highlight=False)
        console.print(proof.words, markup=False, highlight=False, soft_wrap=True)
    noticed = sum(proof.failed for proof in proofs)
    console.print(f"{noticed} of {len(proofs)} rows fail as they should")
    if any(proof.broken for proof in proofs):
        sys.exit(EXIT_NOT_DONE)
    sys.exit(0 if noticed == len(proofs) else 1)


if __name__ == "__main__":
    typer.run(main)
