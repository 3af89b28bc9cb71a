"""Check the chart in deploy/k8s, for `make lint`: `python tools/check_chart.py`.

Lints it, renders it with its defaults and with each of its ci/*-values.yaml, checks what was
rendered against the strict schemas of the oldest Kubernetes that the chart allows and of the newest
that the kubernetes-validate wheel carries, and runs the unit tests in deploy/k8s/tests. Helm and
its unit-test runner are built on the first run (tools/install.py). Exits 1 where anything is
wrong with the chart.
"""

import subprocess
import sys
from pathlib import Path

import install
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "k8s"
TOOLS = ("helm", "helm-unittest")
# Kinds of the Prometheus operator; their schemas are not Kubernetes' own.
FOREIGN_KINDS = ("PodMonitor",)
STEP_TIMEOUT_S = 120


def run(name: str, command: list[str]) -> str | None:
    """Output of `command`, or None where it failed, after telling why."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=STEP_TIMEOUT_S,
        cwd=ROOT,
    )
    if done.returncode == 0:
        return done.stdout
    sys.stderr.write(f"chart: {name} failed\n{done.stdout}{done.stderr}\n")
    return None


def kubernetes_versions() -> tuple[str, str]:
    """The oldest version that the chart allows and the newest known one, e.g. "1.30.0"."""
    allowed = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["kubeVersion"]
    oldest = allowed.removeprefix(">=").removesuffix("-0")
    known = kubernetes_validate.utils.all_versions()
    if oldest not in known:
        raise RuntimeError(f"no schemas of Kubernetes {oldest}, the oldest that Chart.yaml allows")
    return oldest, known[-1]


def schema_faults(rendered: str) -> list[str]:
    """What is wrong with the documents of `rendered`, each fault with its place."""
    faults = []
    for document in yaml.safe_load_all(rendered):
        if document is None or document["kind"] in FOREIGN_KINDS:
            continue
        for version in kubernetes_versions():
            place = f"{document['kind']} {document['metadata']['name']}, Kubernetes {version}"
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                field = ".".join(str(part) for part in error.absolute_path)
                faults.append(f"{place}: {field}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError as error:
                faults.append(f"{place}: {error.message}")
    return faults


def check_values(values: Path | None) -> bool:
    """Whether the chart with one file of values lints, renders and fits the schemas."""
    name = values.name if values else "defaults"
    helm = str(install.BIN / "helm")
    arguments = [str(CHART), *(["--values", str(values)] if values else [])]
    if run(f"lint ({name})", [helm, "lint", "--strict", *arguments]) is None:
        return False
    rendered = run(
        f"template ({name})", [helm, "template", "release", "--namespace", "shop", *arguments]
    )
    if rendered is None:
        return False
    faults = schema_faults(rendered)
    for fault in faults:
        sys.stderr.write(f"chart: schema ({name}): {fault}\n")
    return not faults


def main() -> int:
    """Run all checks; the exit status."""
    by_name = {tool.name: tool for tool in install.TOOLS}
    status = install.install([by_name[name] for name in TOOLS])
    if status != 0:
        return status
    variations = [None, *sorted(CHART.glob("ci/*-values.yaml"))]
    right = [check_values(values) for values in variations]
    tests = run("unit tests", [str(install.BIN / "helm-unittest"), "--strict", str(CHART)])
    sys.stdout.write(tests or "")
    sys.stdout.write(f"chart: {sum(right)} of {len(variations)} variations are right\n")
    return 0 if all(right) and tests is not None else 1


if __name__ == "__main__":
    sys.exit(main())
