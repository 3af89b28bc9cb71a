"""The campaign's crowd, in a process of its own as in its pod, against a mesh on this machine."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from devstack import Stores
from devstack.mesh import REPOSITORY_ROOT
from tests.kits.mesh import Mesh, prepared_stores

__all__ = ["prepared_stores"]

TIMEOUT_S = 90.0
# The same script, with the paths of this machine.
SCRIPT = """
import asyncio, pathlib, sys
from campaigns.k8s import crowd
crowd.STOP, crowd.KEYS = map(pathlib.Path, sys.argv[1:])
asyncio.run(crowd.main())
"""
STARTED = b"started\n"


@pytest.mark.slow
async def test_the_crowd_buys_until_told_to_stop_and_counts_what_the_stores_have(
    prepared_stores: Stores, tmp_path: Path
) -> None:
    """The scarce sale sells out, the other does not, and while a gateway is killed nobody fails."""
    with Mesh(prepared_stores, directory=tmp_path / "mesh") as mesh:
        stop = tmp_path / "stop"
        environment = {
            "TARGET": mesh.address("gateway"),
            "INVENTORY": mesh.address("inventory"),
            "REDIS_URL": prepared_stores.redis_url,
            "POSTGRES_DSN": prepared_stores.postgres_dsn,
            "PER_SECOND": "40",
            "UNITS_DEEP": "1000",
            "UNITS_SCARCE": "5",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCRIPT, str(stop), str(mesh.issuer.jwks_path.parent)),
            env={**os.environ, **environment},
            cwd=REPOSITORY_ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.stdout.readline() == STARTED
            mesh.kill("gateway")
            mesh.restart("gateway")
            stop.touch()
            result = json.loads(await process.stdout.read())
        assert await process.wait() == 0
    assert result["failed"] == {}
    assert [result[name] for name in ("oversold", "lost", "unaccounted")] == [0, 0, 0]
    assert result["orders"] == result["reserved"] > 5
    assert result["units"] == 1005
    assert result["sold_out"] > 0
    assert "SOLD_OUT" not in result["hidden_by_retries"]
