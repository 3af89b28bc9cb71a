"""What `pip install` of the wheel gives to someone who has nothing else of ours."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.mesh import REPOSITORY_ROOT
from seckill.version import VERSION
from tests.kits.actions import open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "requirements", "seckill", "seckill_cli")
DEPENDENCIES = {
    "grpcio",
    "protobuf",
    "googleapis-common-protos",
    "typer",
    "rich",
    "ngh2",
    "prometheus-client",
    "simpy",
}


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and what the wheel asks for."""

    bin: Path
    cwd: Path

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, in an empty folder."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            if "SECKILL_" not in key and key != "PYTHONPATH"
        }
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            env={**inherited, "NO_COLOR": "1", "COLUMNS": "200", **env},
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from a copy of its sources and install it into a new environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = REPOSITORY_ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    quiet = ("--quiet", "--disable-pip-version-check")
    build = ("wheel", *quiet, "--no-deps", "--no-build-isolation", "-w", str(folder))
    subprocess.run([sys.executable, "-m", "pip", *build, str(source)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True, timeout=120)
    python = folder / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", *quiet, wheel], check=True, timeout=300)
    (folder / "empty").mkdir()
    return Installed(folder / "env/bin", folder / "empty")


def test_only_the_client_and_the_command_are_in_it(installed: Installed) -> None:
    """Their names at the top, and the packages that they need."""
    script = """
import importlib.metadata as m
d = m.distribution("seckill-mesh")
tops = {str(f).split("/")[0] for f in d.files if not str(f).startswith("..")}
print(*sorted(t for t in tops if not t.endswith(".dist-info")))
print(*sorted({r.split(">")[0].split("<")[0] for r in d.requires}))
print(*sorted(str(f) for f in d.files if f.match("*/local/*") or f.match("*/demo/*")
              or f.match("*/runtime/*")))
"""
    names, requires, ours = installed.run("python", "-c", script).stdout.splitlines()
    assert names.split() == ["seckill", "seckill_cli"]
    assert set(requires.split()) == DEPENDENCIES
    assert not ours


def test_the_command_runs_without_the_repository(installed: Installed) -> None:
    """Its help has the operators' commands; those of the local stack are not there."""
    shown = installed.run("seckill", "--help")
    assert shown.returncode == 0
    operators = {"sale", "order", "kill-switch", "reconcile", "audit", "dlq", "webhook"}
    assert operators <= set(shown.stdout.split())
    assert not {"up", "down", "demo", "bench"} & set(shown.stdout.split())
    assert installed.run("seckill", "--version").stdout == f"seckill {VERSION}\n"
    assert "No such command 'up'" in installed.run("seckill", "up").stderr
    asked = installed.run("seckill", "sale", "list")
    assert asked.returncode == 1
    assert "--inventory or SECKILL_INVENTORY_TARGET" in asked.stderr


def test_the_client_and_the_stubs_are_typed_and_import_nothing_else(installed: Installed) -> None:
    """Without the services' packages."""
    script = "import seckill.client, seckill.v1.gateway_pb2_grpc, seckill.v1.order_pb2, seckill"
    assert installed.run("python", "-c", script).stderr == ""
    (typed,) = (installed.bin.parent / "lib").glob("*/site-packages/seckill/py.typed")
    assert typed.exists()


async def test_it_operates_a_running_mesh(installed: Installed, mesh: Mesh) -> None:
    """By address."""
    sku = await open_sale(mesh, sale_terms(units=1))
    address = mesh.address("inventory")
    done = installed.run("seckill", "sale", "list", "--inventory", address, **mesh.command_settings)
    assert done.returncode == 0, done.stderr
    assert sku in done.stdout


async def test_the_examples_of_the_readme_buy(installed: Installed, mesh: Mesh) -> None:
    """Both, as they stand there, but for the address and the sku."""
    if mesh.certificates is not None:
        pytest.skip("they have no certificate: buyers come through the edge")
    readme = (REPOSITORY_ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    examples = [block for block in blocks if block.startswith("import")]
    assert len(examples) == 2
    for example in examples:
        sku = await open_sale(mesh, sale_terms(units=1))
        text = example.replace("127.0.0.1:50051", mesh.address("gateway"))
        done = installed.run(
            "python", "-c", text.replace('"phone"', f'"{sku}"'), JWT=mesh.issuer.token(new_id("b"))
        )
        assert done.returncode == 0, done.stderr
        assert "reserved" in done.stdout
