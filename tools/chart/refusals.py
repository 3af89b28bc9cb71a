"""Whether Helm refuses each of wrong_values.yaml, and names where it stands."""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("wrong_values.yaml")
# Right, unless a row says otherwise.
RIGHT = {"gateway": {"jwt": {"issuer": "https://id.example.com"}}}
AT_ONCE = 2
TIMEOUT_S = 60


def faults(helm: Path, chart: Path) -> tuple[int, Sequence[str]]:
    """Return how many rows there are, and a sentence for each that is not refused as it must be."""
    rows: Sequence[Mapping[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        each = pool.map(lambda row: list(_row_faults(helm, chart, row)), rows)
        return len(rows), [fault for row_faults in each for fault in row_faults]


def _row_faults(helm: Path, chart: Path, row: Mapping[str, Any]) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as wrong:
        yaml.safe_dump(_merged(RIGHT, row["set"]), wrong)
        wrong.flush()
        done = subprocess.run(
            [helm, "template", "release", chart, "--values", wrong.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    if done.returncode == 0:
        yield f"{row['set']} is not refused"
        return
    pointer = "/" + row["path"].replace(".", "/") if row["path"] else ""
    if f"at '{pointer}'" not in done.stderr and f"{row['path']}:" not in done.stderr:
        yield f"{row['set']}: the refusal does not name {row['path']!r}: {done.stderr.strip()}"
    for word in row["says"]:
        if not re.search(word, done.stderr):
            yield f"{row['set']}: the refusal does not say {word!r}: {done.stderr.strip()}"


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in more.items():
        below = merged.get(name)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[name] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged
