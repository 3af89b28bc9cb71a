"""Who may call what: the table has every method, and every server holds to it."""

import importlib
import pkgutil
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import REGISTRY
from xds.service.orca.v3 import orca_pb2

import seckill.v1
from devstack.authority import Authority
from devstack.certificates import MESH_DOMAIN, issue_stage
from edge.operators.methods import methods
from seckill.runtime.callers import (
    EDGE,
    GATEWAY,
    INVENTORY,
    NOBODY,
    ORDER,
    ROLLBACK,
    STAGES,
    caller,
    rows,
)
from seckill.status import reason_of
from tests.kits.secure.stages import EveryMethod, calling, refusal, served, settings_of

DENIED = grpc.StatusCode.PERMISSION_DENIED
SERVERS = (GATEWAY, INVENTORY, ORDER, ROLLBACK, EDGE)


def contracts() -> list[FileDescriptor]:
    """Every contract of the mesh, and those of others that its servers have."""
    names = [name for _, name, _ in pkgutil.iter_modules(seckill.v1.__path__)]
    ours = [
        importlib.import_module(f"seckill.v1.{name}").DESCRIPTOR
        for name in names
        if name.endswith("_pb2")
    ]
    return [*ours, *(each.DESCRIPTOR for each in (health_pb2, reflection_pb2, orca_pb2))]


def test_every_method_of_every_service_is_in_the_table() -> None:
    """A new method is refused until somebody decides who may call it; none is there for nothing."""
    defined = {
        f"/{service.full_name}/{method.name}"
        for contract in contracts()
        for service in contract.services_by_name.values()
        for method in service.methods
    }
    assert len(defined) > 80
    assert {path for _, path, _ in rows()} == defined


def test_the_edge_may_call_what_its_listener_for_operators_passes_on() -> None:
    """And an operator at the command line may, too."""
    table = {path: stages for _, path, stages in rows()}
    for method in methods():
        assert EDGE in table[method.path], method.path


def test_what_changes_units_has_one_caller_each() -> None:
    """The heart of the table, said once more and by hand."""
    table = {path.rpartition("/")[2]: stages for _, path, stages in rows()}
    assert table["BatchReserve"] == {GATEWAY}
    assert table["Release"] == {ROLLBACK}
    assert table["RegisterSale"] == {INVENTORY}
    assert table["CancelExpired"] == table["ClaimUnrestored"] == {ROLLBACK}
    assert not table["SetKillSwitch"] & {GATEWAY, INVENTORY, ORDER, ROLLBACK}
    assert not table["VoidOrders"] & {GATEWAY, INVENTORY, ORDER, ROLLBACK}


def test_who_is_not_in_the_table_may_call_nothing_but_health() -> None:
    """Whatever a certificate says that is no stage."""
    permitted = {path for _, path, _ in rows() if caller("another").may_call(path)}
    assert caller("another").stage == NOBODY
    assert permitted == {f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List")}


@pytest.mark.parametrize("stage", SERVERS)
async def test_each_stage_is_answered_as_the_table_says(tmp_path: Path, stage: str) -> None:
    """All callers, and one whom nobody knows, with all methods of a stage, over real TLS."""
    authority = Authority(tmp_path)
    own = {name: issue_stage(authority, name) for name in STAGES}
    stranger = authority.issue("stranger", dns=(f"stranger.{MESH_DOMAIN}",))
    served_here = [(path, stages) for serves, path, stages in rows() if serves == stage]
    assert served_here
    async with served(settings_of(authority, own[stage]), EveryMethod(stage)) as address:
        for name, certificate in (*own.items(), (NOBODY, stranger)):
            async with calling(address, authority, certificate) as channel:
                for path, stages in served_here:
                    refused = await refusal(channel, path)
                    assert (refused is None) == (name in stages), (name, path, refused)
                    if refused is not None:
                        assert refused.code() is DENIED
                        assert refused.details() == f"{name} may not call {path[1:]}"
                        assert reason_of(refused) == "NOT_ALLOWED"


async def test_refusals_are_counted_by_caller_and_method(tmp_path: Path) -> None:
    """Labels come from the table alone, whatever path is called."""
    authority = Authority(tmp_path)
    own = issue_stage(authority, ORDER)

    def refused(method: str) -> float:
        labels = {"caller": GATEWAY, "grpc_method": method}
        return REGISTRY.get_sample_value("seckill_callers_refused_total", labels) or 0.0

    before = refused("AuditSale")
    async with (
        served(settings_of(authority, own), EveryMethod(ORDER)) as address,
        calling(address, authority, issue_stage(authority, GATEWAY)) as channel,
    ):
        await refusal(channel, "/seckill.v1.OrderAdminService/AuditSale")
        gone = await refusal(channel, "/seckill.v1.OrderService/NoSuchMethod")
    assert refused("AuditSale") == before + 1
    assert gone is not None
    assert gone.code() is grpc.StatusCode.UNIMPLEMENTED
