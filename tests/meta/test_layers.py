"""The import linter of `make lint` knows the layers: a planted upward import fails it."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LINTER = Path(sys.executable).with_name("lint-imports")
# Importing module → what it must not import; no module twice, since the linter reports chains.
PLANTED = {
    "seckill.runtime.healthcheck": "gateway.service_name",
    "seckill.client.results": "seckill.runtime.clock",
    "gateway.buckets": "order_svc.orders.model",
    "rollback_svc.comparison": "devstack.errors",
    "devstack.deadline": "seckill_cli.display",
    "seckill_cli.orders": "inventory_svc.keys",
    "bench.sample": "tests.kits.factories",
    "tests.kits.waiting": "campaigns.sabotage.edits",
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter of `make lint` on the packages in `folder`."""
    return subprocess.run(
        [LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, copied, with each of the imports planted."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    for package in CONFIG["root_packages"]:
        for path in (ROOT / package).rglob("*.py"):
            to = folder / path.relative_to(ROOT)
            for parent in reversed(to.parents[: -len(folder.parents) - 1]):
                parent.mkdir(exist_ok=True)
                # Without it the folder is a namespace, to which the repository's belongs too.
                (parent / "__init__.py").touch()
            shutil.copyfile(path, to)
    for module, imported in PLANTED.items():
        with (folder / module.replace(".", "/")).with_suffix(".py").open("a") as file:
            file.write(f"\nimport {imported}\n")
    return folder


def test_planted_imports_fail_the_linter_which_names_both_modules(copy: Path) -> None:
    """Upward from each layer, and between two services."""
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    for module, imported in PLANTED.items():
        assert f"{module} -> {imported}" in done.stdout


def test_every_package_is_in_a_layer() -> None:
    """A new top-level package is checked, or the linter would not know of it."""
    packages = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and any(path.rglob("*.py"))
    } - {"build", "docs", "deploy", "protos"}
    layers = CONFIG["contracts"][0]["layers"]
    assert packages == {name for layer in layers for name in layer.split(" | ")}
    assert packages == set(CONFIG["root_packages"])
