"""The campaign's crowd, in a process of its own as in its pod, against a mesh on this machine."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from campaigns.k8s import calls, crowd
from campaigns.k8s.secure import ASKED, REFUSAL
from devstack import Stores
from devstack.mesh import REPOSITORY_ROOT
from seckill.runtime.callers import GATEWAY, OPERATOR
from tests.kits.factories import new_id
from tests.kits.mesh import Mesh, prepared_stores
from tests.kits.stores import one_server

__all__ = ["prepared_stores"]

TIMEOUT_S = 90.0
# The same script, with the paths of this machine.
SCRIPT = """
import asyncio, pathlib, sys
from campaigns.k8s import crowd
crowd.STOP, crowd.KEYS, crowd.MESH = map(pathlib.Path, sys.argv[1:])
asyncio.run(crowd.main())
"""
STARTED = b"started\n"


@pytest.mark.slow
@one_server
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
            str(tmp_path / "no-mesh-tls"),
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


def mounted(mesh: Mesh, stage: str, folder: Path) -> Path:
    """Lay a stage's files as a Secret of the chart does, and return their folder."""
    assert mesh.certificates is not None
    own = mesh.certificates.stages[stage]
    folder.mkdir()
    shutil.copy(mesh.certificates.authority, folder / "ca.crt")
    shutil.copy(own.certificate, folder / "tls.crt")
    shutil.copy(own.key, folder / "tls.key")
    return folder


@pytest.mark.slow
async def test_what_runs_in_pods_finds_its_certificates(
    prepared_stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crowd creates sales as an operator; a gateway's calls are told what the table says."""
    with Mesh(prepared_stores, directory=tmp_path / "mesh", secure=True) as mesh:
        monkeypatch.setattr(calls, "FOLDER", mounted(mesh, GATEWAY, tmp_path / "gateway"))
        monkeypatch.setattr(crowd, "MESH", mounted(mesh, OPERATOR, tmp_path / "operator"))
        # Its certificate names no address but this machine's names.
        monkeypatch.setenv("INVENTORY", mesh.address("inventory").replace("127.0.0.1", "localhost"))
        await crowd.create_sale(new_id("sku"), 1)
        answers = [
            await asyncio.to_thread(
                calls.call,
                mesh.address("inventory"),
                "inventory.seckill.internal",
                path.removeprefix("!"),
                shown=not path.startswith("!"),
            )
            for path in ASKED
        ]
    assert answers[:2] == ["OK", f"PERMISSION_DENIED {REFUSAL}"]
    assert answers[2].startswith("UNAVAILABLE")
