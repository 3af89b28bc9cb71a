"""What the Dockerfile copies is enough for the command and the services."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.mesh import REPOSITORY_ROOT
from seckill.version import VERSION

DOCKER = REPOSITORY_ROOT / "deploy/docker"
COPY = re.compile(r"^COPY (\S+/) (\S+/)$", re.MULTILINE)
MODULES = ("gateway", "inventory_svc", "order_svc", "rollback_svc", "order_svc.db.migrate", "edge")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's folders, as the Dockerfile's lines fill them."""
    root = tmp_path_factory.mktemp("image")
    dockerfile = (DOCKER / "Dockerfile").read_text()
    kept = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    for source, target in COPY.findall(dockerfile):
        assert f"!{source}" in kept, f"{source} is not sent to the builder"
        folder = root / target.lstrip("/") if target.startswith("/") else root / "srv" / target
        shutil.copytree(REPOSITORY_ROOT / source, folder, dirs_exist_ok=True)
    # This environment has the repository itself on its path, which the image has not.
    (root / "without").mkdir()
    (root / "without/sitecustomize.py").write_text(
        f"import sys\nwhile {str(REPOSITORY_ROOT)!r} in sys.path:\n"
        f"    sys.path.remove({str(REPOSITORY_ROOT)!r})\n"
    )
    return root


def run(image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Start the image with these words, on this environment's packages."""
    programs = (image / "usr/local/bin", Path(sys.executable).parent, Path("/usr/bin"))
    path = os.pathsep.join(str(folder) for folder in (*programs, Path("/bin")))
    modules = os.pathsep.join((str(image / "srv"), str(image / "without")))
    return subprocess.run(
        [str(image / "usr/local/bin/seckill-run"), *words],
        env={"PATH": path, "PYTHONPATH": modules, "COLUMNS": "200", "SECKILL_LOG_LEVEL": "?"},
        cwd=image,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_runs_from_the_image(image: Path) -> None:
    """`docker run IMAGE seckill …`, and `kubectl exec … seckill`, which skips the entry point."""
    assert run(image, "seckill", "--version").stdout == f"seckill {VERSION}\n"
    assert "No such command 'up'" in run(image, "seckill", "up").stderr
    assert os.access(image / "usr/local/bin/seckill", os.X_OK)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_starts_from_the_image(image: Path, module: str) -> None:
    """It imports all that it needs, and gets as far as its settings."""
    done = run(image, module)
    assert "Traceback" not in done.stderr
    assert re.search(r"^SECKILL_\w+", done.stderr, re.MULTILINE)
