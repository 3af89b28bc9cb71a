"""The health checks of compose.yaml, run against what they are for."""

import asyncio
import functools
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import yaml

from devstack.mesh import REPOSITORY_ROOT
from devstack.ports import pick_free_port
from tests.kits.edge_front import running_edge
from tests.kits.edge_upstream import running_upstream
from tests.kits.waiting import eventually

CHECK_S = 60.0
SERVICES = yaml.safe_load((REPOSITORY_ROOT / "compose.yaml").read_text())["services"]


async def healthy(service: str, port: int) -> bool:
    """Whether the check of a service succeeds, made to another port of this machine."""
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    usual = {"edge": "9106", "edge-agent": "9105", "gateway": "50051"}[service]
    told = [part.replace(usual, str(port)) for part in command]
    assert told != command
    if told[0] == "python":
        told[0] = sys.executable
    process = await asyncio.create_subprocess_exec(
        *told, cwd=REPOSITORY_ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(CHECK_S):
        return await process.wait() == 0


async def test_each_check_tells_who_is_ready(tmp_path: Path) -> None:
    """Envoy, its agent and a service are; a port without a listener is not."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running_upstream())
        edge = await stack.enter_async_context(running_edge(upstream, tmp_path, {}))
        ports = {
            "edge": edge.ports.stats,
            "edge-agent": edge.ports.agent_metrics,
            "gateway": int(upstream.target.rpartition(":")[2]),
        }
        for service, port in ports.items():
            await eventually(functools.partial(healthy, service, port))
    unused = [healthy(service, pick_free_port()) for service in ports]
    assert await asyncio.gather(*unused) == [False] * len(unused)
