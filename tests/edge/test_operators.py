"""The operators' listener: for operators and listed methods alone, changes logged."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from edge.operators.methods import methods
from edge.operators.rotation import LogRotation
from seckill.runtime.dev_issuer import KEY_ID, DevIssuer, load_or_create
from seckill.v1 import order_pb2
from tests.kits.factories import new_id
from tests.kits.http import Answer
from tests.kits.mesh import Mesh
from tests.kits.operator_edge import OperatorEdge, operator_edge
from tests.kits.waiting import eventually
from tests.kits.waiting import logged as line_logged

EVERY = [method.path for method in methods()]
INVENTORY, ORDERS = "/seckill.v1.InventoryService", "/seckill.v1.OrderService"
LOG = "/seckill.v1.OperatorLogService"
# What services and replicas ask each other.
INSIDE = (
    f"{INVENTORY}/BatchReserve",
    f"{INVENTORY}/RepairHolds",
    f"{INVENTORY}/WatchSales",
    f"{ORDERS}/RegisterSale",
    f"{ORDERS}/MarkRestored",
    f"{ORDERS}/ConfirmStore",
    "/seckill.v1.BuyerHistoryService/RecordSightings",
    "/seckill.v1.GateRulesService/WatchGateRules",
    "/seckill.v1.GatewayService/ListSales",
    "/grpc.health.v1.Health/Check",
    "/metrics/nothing",
)


@pytest.fixture(scope="module")
async def edge(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OperatorEdge]:
    """An edge with operators, in front of the mesh."""
    async with operator_edge(mesh, tmp_path_factory.mktemp("operators")) as running:
        yield running


def token_of(issuer: DevIssuer, **changes: object) -> str:
    """Return an operator's token with other claims; None leaves one out."""
    claims: dict[str, object] = {
        "iss": issuer.issuer,
        "aud": issuer.audience,
        "sub": "olga",
        "exp": int(time.time()) + 600,
        "roles": ["operator"],
        **changes,
    }
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, issuer.key, algorithm="HS256", headers={"kid": KEY_ID})


def code(answer: Answer) -> tuple[int, str]:
    """Return HTTP status and reason."""
    return answer.status, answer.reason


@pytest.mark.parametrize("path", EVERY)
async def test_a_buyers_token_is_refused(edge: OperatorEdge, mesh: Mesh, path: str) -> None:
    """By each method, whether or not the service behind looks at roles."""
    answer = await edge.call(path, {}, token=mesh.issuer.token("bob"))
    assert code(answer) == (403, "NOT_ALLOWED")
    assert answer.json["code"] == 7


@pytest.mark.parametrize("path", EVERY)
async def test_without_a_token_nothing_is_done(edge: OperatorEdge, path: str) -> None:
    """Each method says that the identity is missing."""
    answer = await edge.call(path, {}, token="")
    assert code(answer) == (401, "IDENTITY_MISSING")
    assert answer.json["code"] == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"iss": "https://other.example"},
        {"sub": None},
        {"sub": "two words"},
    ],
    ids=["expired", "for ever", "other issuer", "nobody", "no user id"],
)
async def test_a_token_must_say_what_services_want(
    edge: OperatorEdge, mesh: Mesh, changes: dict[str, object]
) -> None:
    """The listener takes no token that a service would not take."""
    answer = await edge.call(
        f"{INVENTORY}/GetKillSwitch", {}, token=token_of(mesh.issuer, **changes)
    )
    assert code(answer) == (401, "IDENTITY_INVALID")


async def test_a_token_for_another_audience_is_refused(edge: OperatorEdge, mesh: Mesh) -> None:
    """Envoy knows who it is, and does not let them in."""
    token = token_of(mesh.issuer, aud="others")
    answer = await edge.call(f"{INVENTORY}/GetKillSwitch", {}, token=token)
    assert code(answer) == (403, "NOT_ALLOWED")


@pytest.mark.parametrize("roles", ["operator", ["operators"], ["service"], {"operator": True}, []])
async def test_the_role_is_in_a_list(edge: OperatorEdge, mesh: Mesh, roles: object) -> None:
    """Nothing but the word itself in a list makes an operator."""
    token = token_of(mesh.issuer, roles=roles)
    answer = await edge.call(f"{INVENTORY}/GetKillSwitch", {}, token=token)
    assert code(answer) == (403, "NOT_ALLOWED")


async def test_foreign_keys_and_tokens_in_addresses_prove_nothing(
    edge: OperatorEdge, mesh: Mesh, tmp_path: Path
) -> None:
    """A token of another issuer's key, none at all, and one in the query."""
    path = f"{INVENTORY}/GetKillSwitch"
    foreign = token_of(load_or_create(tmp_path / "other"))
    assert code(await edge.call(path, {}, token=foreign)) == (401, "IDENTITY_INVALID")
    assert code(await edge.call(path, {}, token="x")) == (401, "IDENTITY_INVALID")
    query = f"{path}?access_token={token_of(mesh.issuer)}"
    assert code(await edge.call(query, {}, token="")) == (401, "IDENTITY_MISSING")


@pytest.mark.parametrize("path", INSIDE)
async def test_what_is_not_listed_is_not_there(edge: OperatorEdge, path: str) -> None:
    """Not for operators either."""
    assert code(await edge.call(path, {})) == (404, "NOT_IMPLEMENTED")


async def test_only_json_is_taken(edge: OperatorEdge) -> None:
    """The log has requests that people can read."""
    path = f"{INVENTORY}/GetKillSwitch"
    answer = await edge.call(path, b"\0\0\0\0\0", content_type="application/grpc")
    assert answer.headers["grpc-status"] == "12"


async def test_the_public_port_has_none_of_it(edge: OperatorEdge, mesh: Mesh) -> None:
    """An operator's token opens nothing there, and the console is not there either."""
    assert (await edge.edge.call("GET", "/console/")).status == 404
    headers = {
        "authorization": f"Bearer {token_of(mesh.issuer)}",
        "content-type": "application/json",
    }
    for path in EVERY:
        answer = await edge.edge.call("POST", path, {}, headers=headers)
        assert answer.status == 404


async def test_an_operator_runs_a_sale(edge: OperatorEdge) -> None:
    """Errors are those of the services, with their details."""
    sku = new_id("sku")
    terms = {
        "sku": sku,
        "title": "<b>Thing</b>",
        "totalUnits": "3",
        "unitPrice": {"currency": "CNY", "minorUnits": "990"},
        "endTime": "2100-01-01T00:00:00Z",
    }
    made = await edge.call(f"{INVENTORY}/CreateSale", {"terms": terms})
    assert made.json["sale"]["remainingUnits"] == "3"
    paused = await edge.call(f"{INVENTORY}/UpdateSale", {"sku": sku, "state": "SALE_STATE_PAUSED"})
    assert paused.json["sale"]["state"] == "SALE_STATE_PAUSED"
    changes = await edge.call("/seckill.v1.OrderAdminService/ListSaleChanges", {"sku": sku})
    assert [change["operator"] for change in changes.json["changes"]] == ["olga"]
    totals = await edge.call(f"{ORDERS}/GetSaleTotals", {"sku": sku})
    assert totals.json["totalUnits"] == "3"
    assert totals.json["paidUnits"] == "0"
    wrong = await edge.call(f"{INVENTORY}/CreateSale", {"terms": {**terms, "sku": "a b"}})
    assert code(wrong) == (400, "INVALID_FIELD")
    (fields,) = [each for each in wrong.json["details"] if "fieldViolations" in each]
    assert fields["fieldViolations"][0]["field"] == "terms.sku"
    unknown = await edge.call(f"{ORDERS}/GetOrder", {"orderNo": "0" * 26})
    assert code(unknown) == (404, "ORDER_NOT_FOUND")


async def logged(edge: OperatorEdge, *answers: Answer) -> list[dict[str, object]]:
    """Return what the log says of these calls, once it says it of all."""
    ids = [answer.headers["x-request-id"] for answer in answers]

    async def look() -> list[dict[str, object]]:
        found = {action["requestId"]: action for action in await actions(edge)}
        return [found[call_id] for call_id in ids if call_id in found]

    return await eventually(look, lambda found: len(found) == len(ids))


async def actions(edge: OperatorEdge, **page: object) -> list[dict[str, object]]:
    """Return a page of the log."""
    answer = await edge.call(f"{LOG}/ListOperatorActions", page)
    return list(answer.json["actions"])


async def test_every_change_is_in_the_operators_log(edge: OperatorEdge, mesh: Mesh) -> None:
    """With who asked for what, refused calls too, and no token; looks are not."""
    value = new_id("bot")
    entry = {"list": "GATE_LIST_DENY", "kind": "GATE_ENTRY_KIND_USER", "value": value}
    method, token = "/seckill.v1.GateRulesService/AddListEntry", mesh.issuer.token("bob")
    refused = await edge.call(method, {**entry, "reason": "a test"}, token=token)
    done = await edge.call(method, {**entry, "reason": "a test"})
    assert (refused.status, done.status) == (403, 200)
    first, second = await logged(edge, refused, done)
    # Nobody knows who sent a request that proved no operator, and nothing of it is kept.
    assert (first["requestJson"], first["httpStatus"]) == ("", 403)
    assert (second["operator"], second["httpStatus"], second["method"]) == ("olga", 200, method)
    assert json.loads(str(second["requestJson"])) == {**entry, "reason": "a test"}
    # Envoy writes it a moment later than the file that the agent reads.
    path = edge.edge.directory / "edge.log"
    await line_logged(path, value)
    told = path.read_text()
    assert token not in told
    assert "ListOperatorActions" not in told


async def test_the_log_has_pages(edge: OperatorEdge) -> None:
    """Latest first, each call once."""
    answers = [
        await edge.call(f"{ORDERS}/CancelOrder", {"orderNo": str(value) * 26}) for value in range(3)
    ]
    await logged(edge, *answers)
    ids, token = [], ""
    for _ in range(3):
        page = {"pageSize": 1, "pageToken": token}
        found = (await edge.call(f"{LOG}/ListOperatorActions", page)).json
        ids += [action["requestId"] for action in found["actions"]]
        token = found["nextPageToken"]
    assert ids == [answer.headers["x-request-id"] for answer in answers[::-1]]


async def test_a_full_log_is_put_aside_and_read_on(
    mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Envoy starts another file; the console shows the lines of both."""
    async with operator_edge(mesh, tmp_path_factory.mktemp("full")) as running:
        directory = Path(running.edge.settings["SECKILL_EDGE_DIRECTORY"])
        rotation = LogRotation(directory, bytes_max=1)
        older = await running.call(f"{ORDERS}/CancelOrder", {"orderNo": "1" * 26})
        await logged(running, older)
        assert await rotation.run_once()
        newer = await running.call(f"{ORDERS}/CancelOrder", {"orderNo": "2" * 26})
        await logged(running, older, newer)
        assert (directory / "operators.log").stat().st_size > 0


async def test_metrics_are_for_operators(edge: OperatorEdge, mesh: Mesh) -> None:
    """Of each process that the setting names; the token stays at the listener."""
    answer = await edge.call("/metrics/gateway", method="GET")
    assert b"seckill_attempts_total" in answer.body
    denied = await edge.call("/metrics/gateway", method="GET", token=mesh.issuer.token("bob"))
    assert code(denied) == (403, "NOT_ALLOWED")


async def test_pages_are_for_everyone_and_say_where_they_are(edge: OperatorEdge) -> None:
    """Who is to sign in needs the page first; its configuration has no secret."""
    page = await edge.call("/console/", method="GET", token="")
    assert page.status == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    config = await edge.call("/config.json", method="GET", token="")
    assert config.json["developmentIssuer"] is True
    assert "gateway" in config.json["metrics"]
    root = await edge.call("/", method="GET", token="")
    assert (root.status, root.headers["location"].endswith("/console/")) == (302, True)


async def test_a_new_key_is_taken_without_a_restart(
    mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Once it is in the file; the old one is none any more."""
    directory = tmp_path_factory.mktemp("keys")
    keys = directory / "operators.json"
    keys.write_text(mesh.issuer.jwks_path.read_text())
    other = load_or_create(directory / "other")
    async with operator_edge(
        mesh, directory / "edge", {"SECKILL_ORDER_OPERATOR_JWKS": str(keys)}
    ) as running:
        path = f"{INVENTORY}/GetKillSwitch"
        assert (await running.call(path, {}, token=token_of(mesh.issuer))).status == 200
        # Seen whole or not at all.
        unfinished = keys.with_name("unfinished")
        unfinished.write_text(other.jwks_path.read_text())
        unfinished.rename(keys)
        await eventually(
            lambda: running.call(path, {}, token=token_of(other)),
            lambda answer: answer.status == 200,
        )
        old = await running.call(path, {}, token=token_of(mesh.issuer))
        assert code(old) == (401, "IDENTITY_INVALID")


async def test_the_listener_outlives_its_agent(
    mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Stopping a sale does not wait for the agent."""
    async with operator_edge(mesh, tmp_path_factory.mktemp("alone")) as running:
        running.edge.kill("edge-agent")
        answer = await running.call(f"{INVENTORY}/GetKillSwitch", {})
        assert answer.status == 200


def test_methods_are_of_the_contracts() -> None:
    """Whoever changes something is told apart by the contract, and what reads is not logged."""
    by_path = {method.path: method for method in methods()}
    assert by_path[f"{INVENTORY}/SetKillSwitch"].changes
    assert by_path["/seckill.v1.RollbackService/Reconcile"].changes
    assert not by_path[f"{ORDERS}/ListOrders"].changes
    known = order_pb2.DESCRIPTOR.services_by_name["OrderService"].methods_by_name
    assert f"{ORDERS}/WatchOrder" not in by_path
    assert "WatchOrder" in known
