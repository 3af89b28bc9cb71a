"""Check the chart in deploy/k8s, for `make lint`: `python -m tools.check_chart`.

Lints and renders it with each of its ci/*-values.yaml, with values-trial.yaml and with the values
of the campaign; checks what was rendered against the strict schemas of the oldest Kubernetes that
the chart allows and the newest that the kubernetes-validate wheel carries, and against the
services' settings; has Helm refuse a table of wrong values; runs the unit tests in
deploy/k8s/tests. Helm and its unit-test runner are built on the first run (tools/install.py).
Exits 1 if anything is wrong with the chart.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tools import install
from tools.chart import refusals
from tools.chart_rules import known_versions, schema_faults, settings_faults

CHART = install.ROOT / "deploy" / "k8s"
# What is installed with, beside the variations for this check.
VALUES = (
    CHART / "values-trial.yaml",
    install.ROOT / "campaigns" / "k8s" / "values-production.yaml",
)
TOOLS = ("helm", "helm-unittest")
STEP_TIMEOUT_S = 120


def kubernetes_versions() -> tuple[str, str]:
    """The oldest version that Chart.yaml allows, and the newest known one."""
    allowed = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["kubeVersion"]
    oldest = allowed.removeprefix(">=").removesuffix("-0")
    known = known_versions()
    if oldest not in known:
        raise RuntimeError(f"no schemas of Kubernetes {oldest}, the oldest that Chart.yaml allows")
    return oldest, known[-1]


def run(name: str, *command: str) -> str | None:
    """Output of `command`, or None if it failed, after telling why."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=STEP_TIMEOUT_S,
        cwd=install.ROOT,
    )
    if done.returncode == 0:
        return done.stdout
    sys.stderr.write(f"chart: {name} failed\n{done.stdout}{done.stderr}\n")
    return None


def check_values(values: Path, versions: Sequence[str]) -> bool:
    """Whether the chart with this file of values lints, renders, and fits every rule."""
    helm = str(install.BIN / "helm")
    arguments = (str(CHART), "--values", str(values))
    if run(f"lint ({values.name})", helm, "lint", "--strict", *arguments) is None:
        return False
    command = (helm, "template", "release", "--namespace", "shop", *arguments)
    rendered = run(f"template ({values.name})", *command)
    if rendered is None:
        return False
    documents = [document for document in yaml.safe_load_all(rendered) if document]
    faults = [*schema_faults(documents, versions), *settings_faults(documents)]
    for fault in faults:
        sys.stderr.write(f"chart: {values.name}: {fault}\n")
    return not faults


def main() -> int:
    """Run all checks; the exit status."""
    by_name = {tool.name: tool for tool in install.TOOLS}
    status = install.install([by_name[name] for name in TOOLS])
    if status != 0:
        return status
    versions = kubernetes_versions()
    variations = [*sorted(CHART.glob("ci/*-values.yaml")), *VALUES]
    right = [check_values(values, versions) for values in variations]
    sys.stdout.write(
        f"chart: {sum(right)} of {len(right)} variations are right for Kubernetes "
        f"{' and '.join(versions)}\n"
    )
    wrong, unrefused = refusals.faults(install.BIN / "helm", CHART)
    for fault in unrefused:
        sys.stderr.write(f"chart: {fault}\n")
    sys.stdout.write(f"chart: {wrong} wrong values, {len(unrefused)} of them not refused rightly\n")
    tests = run("unit tests", str(install.BIN / "helm-unittest"), "--strict", str(CHART))
    sys.stdout.write(tests or "")
    return 0 if all(right) and not unrefused and tests is not None else 1


if __name__ == "__main__":
    sys.exit(main())
