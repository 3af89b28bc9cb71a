"""The `seckill` command as an operator of a test's mesh runs it."""

import os
import subprocess
import sys

from devstack.mesh import REPOSITORY_ROOT
from tests.kits.mesh import Mesh


def seckill(mesh: Mesh, *arguments: str, fails: bool = False, status: int | None = None) -> str:
    """Run the command; returns what it printed.

    Args:
        fails: it must fail.
        status: it must exit with this one.
    """
    env = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
    targets = {key: value for key, value in mesh.settings.items() if key.endswith("_TARGET")}
    targets["SECKILL_OPERATOR_TOKEN"] = mesh.issuer.token("olga", roles=["operator"])
    done = subprocess.run(
        [sys.executable, "-m", "seckill_cli", *arguments],
        env={**env, **targets, **mesh.command_settings, "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if status is None:
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
    else:
        assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
