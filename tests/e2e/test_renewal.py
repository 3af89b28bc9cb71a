"""The stages' certificates and their authority are changed under buyers, as the runbook says."""

import asyncio
import re
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from devstack import Stores
from devstack.authority import Authority
from devstack.certificates import issue_stage
from devstack.mesh import REPOSITORY_ROOT, SERVICES
from seckill.client import CallFailed, Outcome, SeckillClient
from seckill.runtime.callers import EDGE, OPERATOR, STAGES
from tests.kits.actions import open_sale
from tests.kits.edge import AGENT, ENVOY, Edge
from tests.kits.factories import new_id, sale_terms
from tests.kits.http import CALL_S
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

RUNBOOK = REPOSITORY_ROOT / "docs" / "runbook.md"
# For one stage, with the paths of a local stack.
(COMMANDS,) = re.findall(
    r"```sh\n(stage=order\n.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL
)
UNITS = 20_000
BUYERS_AT_ONCE = 2
# So that all connections are new ones soon after a step.
CONNECTION_AGE_S = "1"
EXPIRY = "seckill_certificate_expiry_timestamp_seconds"
EXPIRY_OF_ENVOY = "envoy_cluster_ssl_certificate_expiration_unix_time_seconds"
CONNECTIONS_OF_ENVOY = 2


@pytest.fixture
def secured(prepared_stores: Stores, tmp_path: Path) -> Iterator[Mesh]:
    """Start a mesh whose services demand certificates."""
    settings = {"SECKILL_CONNECTION_AGE_MAX_S": CONNECTION_AGE_S}
    with Mesh(
        prepared_stores, directory=tmp_path / ".seckill", settings=settings, secure=True
    ) as running:
        yield running


@pytest.fixture
def edge(secured: Mesh, tmp_path: Path) -> Iterator[Edge]:
    """Start Envoy and its agent before it."""
    # The public's connections stay.
    settings = {"SECKILL_CONNECTION_AGE_MAX_S": "600"}
    with Edge(secured.edge_settings, directory=tmp_path / "edge", settings=settings) as running:
        yield running


def value(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of a metric that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def agent_metrics(edge: Edge) -> str:
    """Return the metrics of Envoy's agent."""
    url = f"http://127.0.0.1:{edge.ports.agent_metrics}/metrics"
    with urllib.request.urlopen(url, timeout=CALL_S) as answer:
        return str(answer.read().decode())


def connections(edge: Edge) -> float:
    """Count the connections that Envoy has made to the gateway."""
    return value(edge.metrics(), "envoy_cluster_upstream_cx_total", envoy_cluster_name="gateway")


@asynccontextmanager
async def buyers(mesh: Mesh, edge: Edge) -> AsyncIterator[list[Outcome | str]]:
    """Let buyers come through the edge during the block; yields what each was told so far."""
    sku = await open_sale(mesh, sale_terms(units=UNITS))
    told: list[Outcome | str] = []
    over = asyncio.Event()

    async def come(client: SeckillClient) -> None:
        while not over.is_set():
            buyer = client.acting_for(mesh.issuer.token(new_id("buyer")))
            try:
                told.append((await buyer.buy(sku)).outcome)
            except CallFailed as failure:
                told.append(repr(failure))

    async with SeckillClient(edge.address) as client, asyncio.TaskGroup() as group:
        for _ in range(BUYERS_AT_ONCE):
            group.create_task(come(client))
        try:
            yield told
        finally:
            over.set()


class Renewal:
    """Replaces the files of all stages, and waits until they are used."""

    def __init__(self, mesh: Mesh, edge: Edge) -> None:
        assert mesh.certificates is not None
        self._mesh = mesh
        self._edge = edge
        self._files = mesh.certificates
        self._steps = 0

    async def by_hand(self) -> None:
        """Run the runbook's commands for each stage."""
        for stage in STAGES:
            commands = COMMANDS.replace("stage=order", f"stage={stage}")
            done = await asyncio.create_subprocess_exec(
                *("sh", "-euc", commands),
                cwd=self._mesh.directory.parent,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await done.communicate()
            assert done.returncode == 0, said.decode()
        await self._used()

    async def step(self, signer: Authority, *trusted: Authority) -> None:
        """Give each stage a certificate of `signer`, and have it trust others of `trusted`."""
        self._steps += 1
        new = self._files.authority.with_suffix(".new")
        new.write_text("".join(each.certificate.read_text() for each in trusted))
        new.replace(self._files.authority)
        for stage, own in self._files.stages.items():
            made = issue_stage(signer, stage, valid=timedelta(days=60 + self._steps))
            made.certificate.replace(own.certificate)
            made.key.replace(own.key)
        await self._used()

    async def _used(self) -> None:
        """Return once all processes use what is in the files."""

        async def differing() -> set[str]:
            found = {
                service.name: value(self._mesh.metrics(service.name), EXPIRY, use="mesh")
                for service in SERVICES
            }
            found[AGENT] = value(agent_metrics(self._edge), EXPIRY, use="mesh")
            found[ENVOY] = value(
                self._edge.metrics(),
                EXPIRY_OF_ENVOY,
                envoy_cluster_name="gateway",
                envoy_tls_certificate="mesh",
            )
            return {name for name, end in found.items() if end != ends[name]}

        ends = {stage: _end_s(own.certificate) for stage, own in self._files.stages.items()}
        ends[AGENT] = ends[ENVOY] = ends[EDGE]
        await eventually(differing, lambda found: not found)


def _end_s(certificate: Path) -> float:
    pem = certificate.read_bytes()
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


async def asked_by(mesh: Mesh, folder: Path) -> grpc.StatusCode:
    """Ask inventory for its health as the operator whose files are in a folder."""
    own = folder / f"{OPERATOR}.pem"
    assert mesh.certificates is not None
    credentials = grpc.ssl_channel_credentials(
        mesh.certificates.authority.read_bytes(),
        own.with_name(f"{OPERATOR}-key.pem").read_bytes(),
        own.read_bytes(),
    )
    async with grpc.aio.secure_channel(mesh.address("inventory"), credentials) as channel:
        ask: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            await ask(b"", timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.slow
async def test_certificates_and_their_authority_are_changed_under_buyers(
    secured: Mesh, edge: Edge, tmp_path: Path
) -> None:
    """By the runbook's commands; then another authority, in three steps; no buyer notices."""
    assert secured.certificates is not None
    before, copy = tmp_path / "before", tmp_path / "old"
    for target in (before, copy):
        shutil.copytree(secured.certificates.authority.parent, target)
    old, new = Authority.load(copy), Authority(tmp_path / "new")
    renewal = Renewal(secured, edge)
    async with buyers(secured, edge) as told:
        await renewal.by_hand()
        await renewal.step(old, old, new)
        await renewal.step(new, old, new)
        assert await asked_by(secured, before) is grpc.StatusCode.OK
        await renewal.step(new, new)
        made, count = connections(edge), len(told)

        async def connected_again() -> bool:
            # For calls and for health; and buyers were told something since.
            fresh = connections(edge) - made
            return fresh >= CONNECTIONS_OF_ENVOY and len(told) > count + BUYERS_AT_ONCE

        await eventually(connected_again)
        assert await asked_by(secured, before) is grpc.StatusCode.UNAVAILABLE
    assert set(told) == {Outcome.RESERVED}
