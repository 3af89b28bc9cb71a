"""`python -m campaigns.compose`: compose.yaml, brought up, bought from, restarted, taken down.

Needs Docker, and what builds images (COMPOSE_BUILD). Compose is Docker's plugin if it has one, else
the pinned docker-compose of tools/install.py. Ports of the host are free ones. Exits with 0 if all
steps were right, with 1 if one was not, with 2 if it could not be run.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import typer
import yaml
from rich.console import Console

from campaigns import images as image_files
from campaigns.commands import CommandFailed, run
from campaigns.images import OFFICIAL, Images
from campaigns.report import Report
from devstack.mesh import REPOSITORY_ROOT
from tools import install

PROJECT = "seckill-compose-test"
FILE = REPOSITORY_ROOT / "compose.yaml"
OUTPUT = Path(".seckill/compose-test.json")
UP_TIMEOUT_S = 300.0
HTTP_TIMEOUT_S = 10.0
EXIT_NOT_DONE = 2
TOOL = "docker-compose"
SKU = re.compile(r"\btry-[0-9a-f]{8}\b")
# What Compose makes: containers, volumes, networks.
KINDS = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
console = Console()


class Overridden(list[str]):
    """A list that takes the place of the one in compose.yaml, where it would be added to it."""


yaml.SafeDumper.add_representer(
    Overridden, lambda dumper, data: dumper.represent_sequence("!override", list(data))
)


def override(images: Images) -> str:
    """Return a second file for Compose: the campaign's images, and free ports of this machine."""
    own = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    services: dict[str, dict[str, Any]] = {}
    for name, service in own["services"].items():
        if "profiles" in service:
            continue
        short = OFFICIAL.get(service["image"])
        changed: dict[str, Any] = {"image": images.name(short) if short else images.product}
        if "ports" in service:
            inside = [published.rpartition(":")[2] for published in service["ports"]]
            changed["ports"] = Overridden(f"127.0.0.1::{port}" for port in inside)
        services[name] = changed
    return yaml.safe_dump({"services": services})


class Composed:
    """The campaign's project."""

    def __init__(self, command: Sequence[str], folder: Path, images: Images) -> None:
        """`command`: what runs Compose; `folder`: where the second file goes."""
        second = folder / "override.yaml"
        second.write_text(override(images), encoding="utf-8")
        self._command = (*command, "-p", PROJECT, "-f", str(FILE), "-f", str(second))

    def call(self, *words: str, timeout_s: float = UP_TIMEOUT_S) -> str:
        """Run Compose; raise CommandFailed with what it said."""
        return run(*self._command, *words, timeout_s=timeout_s)

    def up(self) -> str:
        """Bring everything up; return how many containers run."""
        try:
            wait = ("--wait", "--wait-timeout", str(int(UP_TIMEOUT_S)))
            self.call("up", "--no-build", *wait, timeout_s=UP_TIMEOUT_S + 30)
        except CommandFailed as error:
            logs = self.call("logs", "--no-color", "--tail", "20")
            raise CommandFailed(f"{error}\n{logs}") from error
        running = self.call("ps", "--services", "--status", "running").split()
        return f"{len(running)} containers run"

    def address(self, service: str, port: int) -> str:
        """Return where a port of a container is on this machine."""
        return self.call("port", service, str(port)).strip()

    def seckill(self, *words: str) -> str:
        """Run the `seckill` command of this environment."""
        command = (sys.executable, "-m", "seckill_cli", *words)
        return run(*command, "--inventory", self.address("inventory", 50052))

    def buy(self, identity: str, service: str, port: int) -> str:
        """Buy a unit at a service; return the sku."""
        gateway = self.address(service, port)
        told = self.seckill("try", "--gateway", gateway, "--identity", identity, "--pay")
        sku = SKU.search(told)
        if sku is None or "paid" not in told:
            raise CommandFailed(f"nothing was bought:\n{told}")
        return sku[0]


def left() -> list[str]:
    """Return what Docker still has of the project."""
    chosen = ("--filter", f"label=com.docker.compose.project={PROJECT}", "--quiet")
    return [name for kind in KINDS for name in run("docker", *kind, *chosen).split()]


def play(composed: Composed, report: Report) -> None:
    """Take each step; a failed one does not keep the next from being tried."""
    try:
        with report.step("up --wait") as step:
            step.told = composed.up()
        identity = composed.call("run", "--rm", "--no-deps", "secrets", "alice").split()[-1]
        bought = []
        for name, service, port in (("the gateway", "gateway", 50051), ("Envoy", "edge", 8080)):
            with report.step(f"a unit bought through {name}") as step:
                bought.append(composed.buy(identity, service, port))
                step.told = f"sale {bought[-1]}, one unit, paid"
        with report.step("JSON through Envoy") as step:
            sales = _read(f"http://{composed.address('edge', 8080)}/v1/sales")
            listed = {sale["terms"]["sku"] for sale in sales["sales"]}
            step.expect(listed.issuperset(bought), f"{bought} are not among {listed}")
            step.told = "both sales are listed"
        with report.step("stopped, and up again") as step:
            composed.call("stop")
            step.told = composed.up()
            for sku in bought:
                step.expect(sku in composed.seckill("sale", "show", sku), f"{sku} is gone")
            composed.buy(identity, "edge", 8080)
            step.told += ", the sales are there, a unit is bought"
    finally:
        with report.step("down --volumes") as step:
            composed.call("down", "--volumes", "--timeout", "30")
            step.expect(not left(), f"left: {left()}")
            step.told = "nothing left"


def _read(url: str) -> dict[str, Any]:
    """Return the JSON there; raise CommandFailed if it cannot be read."""
    try:
        with urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:  # noqa: S310 - http
            document: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{url}: {error}") from error
    return document


def main(
    prefix: Annotated[str, typer.Option(help="What names of images begin with.")] = "localhost",
    tag: Annotated[str, typer.Option(help="What they end with.")] = "compose-test",
    images: Annotated[bool, typer.Option(help="Build the images.")] = True,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = OUTPUT,
) -> None:
    """Run the campaign, print a table, write its JSON."""
    chosen = Images(prefix=prefix, tag=tag)
    report = Report(console, "compose.yaml")
    try:
        command, version = _compose()
        versions = _versions(version)
        if images:
            with report.step("images built") as step:
                image_files.build(chosen, os.environ.get("COMPOSE_BUILD", "docker build"))
                step.told = "the product, three stores, Envoy"
        with tempfile.TemporaryDirectory(prefix="seckill-compose-") as folder:
            play(Composed(command, Path(folder), chosen), report)
    except (CommandFailed, OSError, LookupError) as error:
        console.print(f"[bold red]not run:[/] {error}")
        sys.exit(EXIT_NOT_DONE)
    console.print(report.table())
    report.write(output, versions)
    console.print(f"written to {output}")
    sys.exit(1 if report.problems else 0)


def _compose() -> tuple[tuple[str, ...], str]:
    """Return what runs Compose, and its version; raise CommandFailed if nothing does."""
    if shutil.which("docker") is None:
        raise CommandFailed("docker is not on PATH")
    plugin = ("docker", "compose")
    try:
        return plugin, run(*plugin, "version", "--short").strip()
    except CommandFailed:
        (tool,) = (tool for tool in install.TOOLS if tool.name == TOOL)
        if install.install([tool]) != 0:
            raise CommandFailed(f"{TOOL} could not be built") from None
        # Built from its module, it does not know its version.
        return (str(tool.path),), tool.version


def _versions(compose: str) -> dict[str, str]:
    server = run("docker", "version", "--format", "{{.Server.Version}}")
    return {
        "docker": server.strip(),
        "compose": compose,
        "commit": run("git", "-C", REPOSITORY_ROOT, "rev-parse", "--short", "HEAD").strip(),
    }


if __name__ == "__main__":
    typer.run(main)
