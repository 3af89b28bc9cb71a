"""The edge beside the local mesh."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from devstack import ProcessSpec, Services, Stores, edge
from devstack.certificates import load_or_create
from devstack.errors import StackError
from devstack.mesh import TOPICS
from devstack.ports import settle_ports
from tests.kits.edge import AGENT, ENVOY, FREE_PORTS
from tests.kits.edge_front import edge_before, list_sales
from tests.kits.edge_upstream import running_upstream
from tests.kits.mesh import FREE_PORTS as MESH_PORTS
from tests.kits.waiting import eventually


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of the test's own."""
    monkeypatch.setenv("SECKILL_LOCAL_DIR", str(tmp_path))


def specs_of(services: Services, stores: Stores) -> Sequence[ProcessSpec]:
    """What these services would start, on free ports."""
    ports = settle_ports(services.ports, {**FREE_PORTS, **MESH_PORTS})
    return services.specs(stores, ports.by_variable)


@pytest.mark.usefixtures("environment")
async def test_the_edge_is_started_with_the_mesh(stores: Stores, tmp_path: Path) -> None:
    """Envoy and its agent come after the services, and their settings stand with the others."""
    specs = await asyncio.to_thread(specs_of, edge.public_mesh(), stores)
    assert [spec.name for spec in specs][-2:] == [ENVOY, AGENT]
    assert len(specs) == 6
    assert "SECKILL_EDGE_LISTEN=" in (tmp_path / "dev.env").read_text()


@pytest.mark.usefixtures("environment")
async def test_dead_letters_stay_until_an_operator_settles_them(stores: Stores) -> None:
    """Kafka would delete them after a week."""
    await asyncio.to_thread(specs_of, edge.public_mesh(), stores)
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.kafka_bootstrap)
    await admin.start()
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in TOPICS]
    (answer,) = await admin.describe_configs(resources)
    await admin.close()
    kept_ms = {
        name: value
        for _, _, _, topic, entries in answer.resources
        for name, value in [(topic, {e[0]: e[1] for e in entries}["retention.ms"])]
    }
    assert kept_ms == {
        "seckill.orders.v1": "604800000",
        "seckill.orders.v1.dlq": "-1",
        "seckill.order-events.v1": "604800000",
    }


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("variable", "value"), [("SECKILL_GATEWAY_FRONT", "grpcio"), ("SECKILL_GATEWAY_JSON", "off")]
)
async def test_a_gateway_without_json_has_it_transcoded_by_the_edge(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Passed on, each call in JSON would fail: who asks for that is told so before the start."""
    monkeypatch.setenv(variable, value)
    await asyncio.to_thread(specs_of, edge.public_mesh(), stores)
    assert "SECKILL_EDGE_JSON='transcoded'" in (tmp_path / "dev.env").read_text()
    monkeypatch.setenv("SECKILL_EDGE_JSON", "passed")
    with pytest.raises(StackError, match=f"{variable}={value}: .*SECKILL_EDGE_JSON=transcoded"):
        await asyncio.to_thread(specs_of, edge.public_mesh(), stores)


@pytest.mark.usefixtures("environment")
async def test_further_replicas_have_ports_and_all_are_found(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is like the first of its service; services and Envoy know the addresses of all."""
    monkeypatch.setenv("SECKILL_LOCAL_REPLICAS", "2")
    specs = {
        spec.name: spec for spec in await asyncio.to_thread(specs_of, edge.public_mesh(), stores)
    }
    services = ("order", "inventory", "rollback", "gateway")
    assert set(specs) == {*services, *(f"{name}-2" for name in services), ENVOY, AGENT}
    assert len({spec.address for spec in specs.values()}) == len(specs)
    written = (tmp_path / "dev.env").read_text()
    for name in services:
        both = f"{specs[name].address},{specs[f'{name}-2'].address}"
        assert specs[f"{name}-2"].env[f"SECKILL_{name.upper()}_LISTEN"] in both
        assert f"SECKILL_{name.upper()}_TARGET='ipv4:{both}'\n" in written
        assert specs["gateway-2"].env[f"SECKILL_{name.upper()}_TARGET"] == f"ipv4:{both}"
    monkeypatch.setenv("SECKILL_LOCAL_REPLICAS", "none")
    with pytest.raises(StackError, match="SECKILL_LOCAL_REPLICAS=none: must be a number from 1"):
        edge.public_mesh()


async def test_calls_go_to_all_replicas_of_the_gateway(tmp_path: Path) -> None:
    """Named by their addresses; without one of them the other has all calls."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_upstream())
        leaving = await stack.enter_async_context(AsyncExitStack())
        second = await leaving.enter_async_context(running_upstream())
        addresses = (one.target.removeprefix("dns:///") for one in (first, second))
        target = f"ipv4:{','.join(addresses)}"
        running = await stack.enter_async_context(edge_before(target, tmp_path, {}))

        async def both_have_calls() -> bool:
            await list_sales(running, "")
            return bool(first.calls and second.calls)

        await eventually(both_have_calls)
        await leaving.aclose()

        async def is_answered() -> bool:
            return (await running.call("GET", "/v1/sales")).status == 200

        await eventually(is_answered)


@pytest.mark.usefixtures("environment")
async def test_without_an_envoy_the_rest_runs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine for which there is no wheel gets the four services."""
    monkeypatch.setattr(edge, "find_envoy", lambda: None)
    assert len(await asyncio.to_thread(specs_of, edge.public_mesh(), stores)) == 4


def test_certificates_are_made_once(tmp_path: Path) -> None:
    """The second start uses those of the first; keys are for their owner alone."""
    files = load_or_create(tmp_path / "tls")
    before = files.server.read_bytes()
    assert load_or_create(tmp_path / "tls").server.read_bytes() == before
    assert files.server_key.stat().st_mode & 0o077 == 0
