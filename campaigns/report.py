"""What the campaign found: a table for people, JSON for programs."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from campaigns.commands import CommandFailed


@dataclass(kw_only=True)
class Step:
    """One step: what was done, how long it took, what came of it.

    Attributes:
        told: the result in a line.
        problem: what is wrong; empty if nothing is.
        details: further facts, for the JSON.
    """

    name: str
    seconds: float = 0.0
    told: str = ""
    problem: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem unless `holds`."""
        if not holds:
            self.problem = "; ".join(part for part in (self.problem, problem) if part)


class Report:
    """The steps so far."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step; a command that fails in it is its problem, and the campaign goes on."""
        step = Step(name=name)
        self.steps.append(step)
        start_s = time.monotonic()
        try:
            yield step
        except CommandFailed as error:
            step.expect(False, str(error))
        step.seconds = round(time.monotonic() - start_s, 1)
        mark = f"[red]{escape(step.problem)}" if step.problem else escape(step.told) or "ok"
        line = f"{name:<34} {step.seconds:>6.1f} s  {mark}"
        # A log has no width: a line stays one.
        self._console.print(line, soft_wrap=True)

    @property
    def problems(self) -> Sequence[Step]:
        """The steps that found something wrong."""
        return [step for step in self.steps if step.problem]

    def table(self) -> Table:
        """Return the result for people."""
        rows = Table("step", "took", "result", title=self._title, title_justify="left")
        for step in self.steps:
            result = f"[red]{escape(step.problem)}" if step.problem else escape(step.told) or "ok"
            rows.add_row(step.name, f"{step.seconds:.1f} s", result)
        return rows

    def write(self, path: Path, versions: dict[str, str]) -> None:
        """Write it as JSON, seen whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "versions": versions,
            "steps": [asdict(step) for step in self.steps],
            "passed": not self.problems,
        }
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)
