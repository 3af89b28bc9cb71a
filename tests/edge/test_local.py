"""The edge beside the local mesh."""

import asyncio
from pathlib import Path

import pytest

from deploy.local import Stores, edge
from deploy.local.certificates import load_or_create
from tests.edge.kit import AGENT, ENVOY, FREE_PORTS
from tests.mesh import FREE_PORTS as MESH_PORTS


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Free ports, and a folder of the test's own."""
    for name, value in {**FREE_PORTS, **MESH_PORTS}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECKILL_LOCAL_DIR", str(tmp_path))


@pytest.mark.usefixtures("environment")
async def test_the_edge_is_started_with_the_mesh(stores: Stores, tmp_path: Path) -> None:
    """Envoy and its agent come after the stages, and their settings stand with the others."""
    specs = await asyncio.to_thread(edge.public_mesh, stores)
    assert [spec.name for spec in specs][-2:] == [ENVOY, AGENT]
    assert len(specs) == 6
    assert "SECKILL_EDGE_LISTEN=" in (tmp_path / "dev.env").read_text()


@pytest.mark.usefixtures("environment")
async def test_without_an_envoy_the_rest_runs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine for which there is no wheel gets the four stages."""
    monkeypatch.setattr(edge, "find_envoy", lambda: None)
    assert len(await asyncio.to_thread(edge.public_mesh, stores)) == 4


def test_certificates_are_made_once(tmp_path: Path) -> None:
    """The second start uses those of the first; keys are for their owner alone."""
    files = load_or_create(tmp_path / "tls")
    before = files.server.read_bytes()
    assert load_or_create(tmp_path / "tls").server.read_bytes() == before
    assert files.server_key.stat().st_mode & 0o077 == 0
