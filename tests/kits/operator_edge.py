"""An edge with the operators' listener, and calls to it as an operator."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kits.edge import Edge
from tests.kits.http import Answer, call
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

OPERATOR = "olga"


@dataclass(frozen=True)
class OperatorEdge:
    """A running edge, and who operates it."""

    edge: Edge
    mesh: Mesh

    @property
    def port(self) -> int:
        """Of the operators' listener."""
        return self.edge.ports.operator

    @property
    def token(self) -> str:
        """An operator's token."""
        return self.mesh.issuer.token(OPERATOR, roles=["operator"])

    async def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        token: str | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Make one call; `token`: the operator's unless given, none if it is empty."""
        headers = {"content-type": content_type} if body is not None else {}
        said = self.token if token is None else token
        if said:
            headers["authorization"] = f"Bearer {said}"
        return await call(self.port, method, path, body, headers=headers)


@asynccontextmanager
async def operator_edge(
    mesh: Mesh, directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[OperatorEdge]:
    """Envoy and its agent in front of the mesh, with an operators' listener that answers."""
    edge = Edge(
        mesh.settings,
        directory=directory,
        operators={name: ports.metrics for name, ports in mesh.ports.items()},
        settings=settings,
    )
    await asyncio.to_thread(edge.__enter__)
    try:
        running = OperatorEdge(edge, mesh)
        await eventually(lambda: _answers(running), bool)
        yield running
    finally:
        await asyncio.to_thread(edge.stop)


async def _answers(edge: OperatorEdge) -> bool:
    try:
        return (await edge.call("/config.json", method="GET", token="")).status == 200
    except OSError:
        return False
