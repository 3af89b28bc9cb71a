"""`python -m campaigns.k8s`: the chart on a cluster, installed, sold through, broken, upgraded.

Needs KUBECONFIG, kubectl, what builds images (K8S_BUILD) and what brings them onto the nodes
(K8S_LOAD, which is given their names). Exits with 0 if all steps were right, with 1 if one was not.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from campaigns import images as image_files
from campaigns.commands import CommandFailed, run
from campaigns.images import Images
from campaigns.k8s import production, secure, trial
from campaigns.k8s.cluster import Cluster
from campaigns.report import Report
from devstack.mesh import REPOSITORY_ROOT
from tools import install

OUTPUT = Path(".seckill/k8s-test.json")
EXIT_NOT_DONE = 2
VARIATIONS = {"trial": trial.play, "production": production.play, "secure": secure.play}
console = Console()


def main(
    prefix: Annotated[str, typer.Option(help="What names of images begin with.")] = "localhost",
    tag: Annotated[str, typer.Option(help="What they end with.")] = "k8s-test",
    images: Annotated[bool, typer.Option(help="Build and load the images.")] = True,
    only: Annotated[str, typer.Option(help="trial, production or secure; empty: all.")] = "",
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = OUTPUT,
) -> None:
    """Run the campaign, print a table, write its JSON."""
    if only not in {"", *VARIATIONS}:
        raise typer.BadParameter(f"--only {only}: must be one of {', '.join(VARIATIONS)}")
    chosen = Images(prefix=prefix, tag=tag)
    report = Report(console, "The chart on a cluster")
    try:
        helm = _helm()
        versions = _versions(helm)
        if images:
            with report.step("images built") as step:
                image_files.build(chosen, os.environ.get("K8S_BUILD", "docker build"))
                step.told = "the product, three stores, Envoy"
            with report.step("images loaded"):
                image_files.load(chosen, os.environ.get("K8S_LOAD", "docker push"))
        for name, play in VARIATIONS.items():
            if only in {"", name}:
                play(Cluster(f"seckill-{name}", helm), chosen, report)
    except (CommandFailed, OSError, LookupError) as error:
        console.print(f"[bold red]not run:[/] {error}")
        sys.exit(EXIT_NOT_DONE)
    console.print(report.table())
    report.write(output, versions)
    console.print(f"written to {output}")
    sys.exit(1 if report.problems else 0)


def _helm() -> Path:
    """Return the pinned helm; raise CommandFailed if it cannot be built."""
    if install.install([tool for tool in install.TOOLS if tool.name == "helm"]) != 0:
        raise CommandFailed("helm could not be built")
    return install.BIN / "helm"


def _versions(helm: Path) -> dict[str, str]:
    if shutil.which("kubectl") is None:
        raise CommandFailed("kubectl is not on PATH")
    nodes = run(
        "kubectl", "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"
    )
    return {
        "kubernetes": " ".join(sorted(set(nodes.split()))),
        "nodes": str(len(nodes.split())),
        "helm": run(helm, "version", "--short").strip(),
        "commit": run("git", "-C", REPOSITORY_ROOT, "rev-parse", "--short", "HEAD").strip(),
    }


if __name__ == "__main__":
    typer.run(main)
