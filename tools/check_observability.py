"""Check deploy/observability, for `make lint`: `python -m tools.check_observability`.

promtool reads the alert rules, runs their tests, and parses every expression of the dashboards.
What the names in them mean is checked by tests/meta. Exits 1 if anything is wrong.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tools.observability import expressions
from tools.prometheus import PrometheusMissing, program

STEP_TIMEOUT_S = 120


def run(name: str, *command: str) -> bool:
    """Whether a command succeeds; says why if it does not."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=STEP_TIMEOUT_S
    )
    if done.returncode != 0:
        sys.stderr.write(f"observability: {name} failed\n{done.stdout}{done.stderr}\n")
    return done.returncode == 0


def check_expressions(promtool: str) -> bool:
    """Whether every expression of the dashboards parses, as rules of their own."""
    found = expressions.of_dashboards()
    rules = [
        {"record": f"dashboards:expression:{number}", "expr": one.query}
        for number, one in enumerate(found)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dashboards.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
        return run("the dashboards' expressions", promtool, "check", "rules", str(path))


def main() -> int:
    """Run all checks; the exit status."""
    try:
        promtool = str(program("promtool"))
    except PrometheusMissing as error:
        sys.stderr.write(f"observability: {error}\n")
        return 1
    tests = sorted(str(path) for path in (expressions.FOLDER / "tests").glob("*.yaml"))
    right = [
        run("the alert rules", promtool, "check", "rules", str(expressions.ALERTS)),
        run("the tests of the alert rules", promtool, "test", "rules", *tests),
        check_expressions(promtool),
    ]
    sys.stdout.write(f"observability: {sum(right)} of {len(right)} checks are right\n")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
