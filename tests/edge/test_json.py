"""JSON at each of its doors: the gateway's own port over HTTP/1.1 and HTTP/2, and the edge's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack.ports import LOOPBACK
from seckill.v1 import order_pb2
from tests.kits.edge_front import edge_before
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import GatewayRig, open_rig
from tests.kits.http import Answer, Version, call
from tests.kits.waiting import eventually

SERVICE = "seckill.v1.GatewayService"
DOORS = ("http/1.1", "h2", "edge")


@dataclass
class Door:
    """A gateway with its small services, and one way to call it."""

    rig: GatewayRig
    port: int
    version: Version

    async def call(
        self, method: str, path: str, body: object = None, *, user: str = "", **headers: str
    ) -> Answer:
        """Call as a buyer; without an identity by default."""
        said = dict(self.rig.identity(user)) if user else {}
        if body is not None:
            said["content-type"] = "application/json"
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await call(self.port, method, path, body, headers=said, version=self.version)

    async def token(self, sku: str, user: str) -> str:
        """Return a purchase token."""
        issued = await self.call("POST", f"/v1/sales/{sku}:issuePurchaseToken", {}, user=user)
        return str(issued.json["purchaseToken"])


@pytest.fixture(scope="module", params=DOORS)
async def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """Each of them in turn."""
    directory: Path = tmp_path_factory.mktemp("json")
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, directory, "http2")
        await rig.gateway.health.set_ready(True)
        port, version = rig.gateway.port, request.param
        if version == "edge":
            target = f"dns:///{LOOPBACK}:{port}"
            edge = await stack.enter_async_context(edge_before(target, directory / "edge", {}))
            port, version = edge.ports.public, "http/1.1"
        opened = Door(rig, port, version)
        # The edge is ready before it has looked at the gateway's health.
        await eventually(lambda: opened.call("GET", "/v1/sales"), lambda seen: seen.status == 200)
        yield opened


def violations(answer: Answer) -> list[dict[str, str]]:
    """Return the fields that an answer finds fault with."""
    (found,) = [each for each in answer.json["details"] if each["@type"].endswith("BadRequest")]
    return list(found["fieldViolations"])


async def test_a_buyer_looks_buys_polls_pays_and_cancels(door: Door) -> None:
    """Each method by its path, in the contract's names or in camel case."""
    services = door.rig.services
    sku, user = services.inventory.put(sale_terms(units=3)), new_id("buyer")
    shown = await door.call("GET", f"/v1/sales/{sku}")
    assert shown.json["sale"]["remainingUnits"] == "3"
    assert shown.json["sale"]["soldOut"] is False
    token = await door.token(sku, user)
    attempt = {"purchase_token": token, "requestId": "r-1", "quantity": 1}
    bought = await door.call("POST", f"/v1/sales/{sku}:purchase", attempt, user=user)
    assert bought.headers["content-type"] == "application/json"
    assert bought.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    order_no = bought.json["orderNo"]
    services.orders.orders[order_no] = order_pb2.Order(
        order_no=order_no, user_id=user, sku=sku, state=order_pb2.ORDER_STATE_PENDING
    )
    polled = await door.call("GET", f"/v1/orders/{order_no}", user=user)
    assert polled.json["order"]["state"] == "ORDER_STATE_PENDING"
    payment = {"paymentId": "p-1", "amount": {"currency": "CNY", "minorUnits": "990"}}
    paid = await door.call("POST", f"/v1/orders/{order_no}:pay", payment, user=user)
    assert paid.json["order"]["state"] == "ORDER_STATE_PAID"
    gone = await door.call("POST", f"/v1/orders/{order_no}:cancel", {}, user=user)
    assert gone.json["order"]["state"] == "ORDER_STATE_CANCELLED"
    watched = await door.call("GET", f"/v1/orders/{order_no}:watch", user=user)
    assert watched.body.splitlines()[-1].find(b"ORDER_STATE_CANCELLED") > 0


async def test_each_method_is_also_at_its_own_path(door: Door) -> None:
    """POST /seckill.v1.GatewayService/<Method> with everything in the body."""
    sku, user = door.rig.services.inventory.put(sale_terms()), new_id("buyer")
    issued = await door.call("POST", f"/{SERVICE}/IssuePurchaseToken", {"sku": sku}, user=user)
    attempt = {
        "sku": sku,
        "purchaseToken": issued.json["purchaseToken"],
        "requestId": "r",
        "quantity": None,
    }
    bought = await door.call("POST", f"/{SERVICE}/Purchase", attempt, user=user)
    assert bought.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    listed = await door.call("GET", "/v1/sales?page_size=1")
    assert len(listed.json["sales"]) == 1
    listed = await door.call("POST", f"/{SERVICE}/ListSales", {"pageSize": "1"})
    assert len(listed.json["sales"]) == 1


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ({"qty": 3}, "qty", "is not a field"),
        ({"quantity": "three"}, "quantity", "is not an integer"),
        ({"quantity": True}, "quantity", "is not an integer"),
        ({"quantity": 1.5}, "quantity", "is not an integer"),
        ({"quantity": 2**31}, "quantity", "does not fit 32 bits"),
        ({"purchaseToken": 7}, "purchase_token", "is not a string"),
        ({"request_id": ["r"]}, "request_id", "is not a string"),
        ({"request_id": "r", "requestId": "r"}, "request_id", "is there twice"),
        ({"sku": "other"}, "sku", "is named by the path"),
        (b'{"quantity":1,"quantity":3}', "quantity", "is there twice"),
        (b'{"quantity":NaN}', "request", "no JSON"),
        (b'{"quantity":1,}', "request", "at character 14"),
        (b"quantity=3", "request", "at character 0"),
        (b"[]", "request", "is not a JSON object"),
        (b"[" * 10_000, "request", "is too large"),
        (b'{"quantity":' + b"9" * 9_000 + b"}", "request", "is too large"),
        (b'{"request_id":"\\ud800"}', "request_id", "half of a surrogate"),
        (b"\xff\xfe{\x00}\x00", "request", "is not UTF-8 at byte 0"),
    ],
)
async def test_what_is_not_understood_is_refused_by_its_name(
    door: Door, body: object, field: str, problem: str
) -> None:
    """400 with the field in BadRequest; a misspelt quantity buys nothing."""
    sku, user = door.rig.services.inventory.put(sale_terms(units=5)), new_id("buyer")
    sold = len(door.rig.services.inventory.holds[sku])
    if isinstance(body, dict):
        token = {"purchase_token": await door.token(sku, user), "request_id": "r"}
        body = {**token, **body} if not body.keys() & {"requestId", "purchaseToken"} else body
    answer = await door.call("POST", f"/v1/sales/{sku}:purchase", body, user=user)
    assert (answer.status, answer.reason) == (400, "INVALID_FIELD")
    (violation,) = violations(answer)
    assert violation["field"] == field
    assert problem in violation["description"]
    assert len(door.rig.services.inventory.holds[sku]) == sold


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/v1/sales/phone:purchase?sku=one", {}, 400, "INVALID_FIELD"),
        ("POST", "/v1/sales/phone:purchase?quantity=3", {}, 400, "INVALID_FIELD"),
        ("GET", "/v1/sales/phone?sku=one", None, 400, "INVALID_FIELD"),
        ("GET", "/v1/sales?nothing=1", None, 400, "INVALID_FIELD"),
        ("GET", "/v1/sales?page_size=x", None, 400, "INVALID_FIELD"),
        ("GET", "/v1/sales?page_size=1&pageSize=2", None, 400, "INVALID_FIELD"),
        ("GET", "/v1/sales/phone:purchase", None, 405, "NOT_IMPLEMENTED"),
        ("POST", "/v1/sales", {}, 405, "NOT_IMPLEMENTED"),
        ("GET", f"/{SERVICE}/Purchase", None, 405, "NOT_IMPLEMENTED"),
        ("GET", "/v1/nothing", None, 404, "NOT_IMPLEMENTED"),
        ("POST", "/v1/sales/phone:nothing", {}, 404, "NOT_IMPLEMENTED"),
        ("POST", "/v1/sales/:purchase", {}, 404, "NOT_IMPLEMENTED"),
        ("POST", f"/{SERVICE}/Nothing", {}, 404, "NOT_IMPLEMENTED"),
        ("GET", "/v1/sales/phone", None, 404, "SALE_NOT_FOUND"),
        ("GET", "/v1/sales/no%20sku", None, 400, "INVALID_FIELD"),
        ("GET", "/v1/orders/00000000000000000000000001", None, 401, "IDENTITY_MISSING"),
        ("GET", "/v1/orders/short", None, 400, "INVALID_FIELD"),
        ("POST", "/v1/orders/00000000000000000000000001:cancel", {}, 401, "IDENTITY_MISSING"),
    ],
)
async def test_wrong_calls_get_the_status_that_http_has_for_them(
    door: Door, method: str, path: str, body: object, status: int, reason: str
) -> None:
    """With google.rpc.Status in the body, and its ErrorInfo."""
    answer = await door.call(method, path, body)
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] > 0
    assert answer.json["message"]
    if status == 405:
        assert answer.headers["allow"] == ("GET" if method == "POST" else "POST")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
async def test_a_body_is_read_as_json_whatever_its_type(door: Door, content_type: str) -> None:
    """Also what `curl -d` calls it."""
    sku = door.rig.services.inventory.put(sale_terms())
    path = f"/v1/sales/{sku}:purchase"
    answer = await door.call("POST", path, {}, content_type=content_type)
    assert (answer.status, violations(answer)[0]["field"]) == (400, "request_id")


async def test_a_body_beyond_the_bound_is_413(door: Door) -> None:
    """By its length, or as it comes."""
    sku = door.rig.services.inventory.put(sale_terms())
    answer = await door.call("POST", f"/v1/sales/{sku}:purchase", {"request_id": "x" * 20_000})
    assert (answer.status, answer.reason) == (413, "INVALID_FIELD")


async def test_an_order_that_is_not_the_buyers_says_the_same_in_both_forms(door: Door) -> None:
    """A fault of another service is passed on with its details."""
    services = door.rig.services
    missing = "0" * 26
    answer = await door.call("POST", f"/v1/orders/{missing}:cancel", {}, user="buyer")
    assert (answer.status, answer.reason) == (404, "ORDER_NOT_FOUND")
    services.orders.orders[missing] = order_pb2.Order(order_no=missing, user_id="another")
    answer = await door.call("POST", f"/v1/orders/{missing}:cancel", {}, user="buyer")
    assert (answer.status, answer.reason) == (404, "ORDER_NOT_FOUND")


async def test_a_crowd_in_json_is_served_in_batches(door: Door) -> None:
    """JSON and gRPC calls go to inventory together."""
    inventory = door.rig.services.inventory
    sku = inventory.put(sale_terms(units=40))
    users = [new_id("buyer") for _ in range(20)]
    tokens = [await door.token(sku, user) for user in users]
    inventory.batches.clear()
    inventory.open.clear()
    inventory.batch_arrived.clear()

    async def buy(user: str, token: str) -> Any:
        attempt = {"purchase_token": token, "request_id": "r"}
        answer = await door.call("POST", f"/v1/sales/{sku}:purchase", attempt, user=user)
        return answer.json["outcome"]

    crowd = [asyncio.create_task(buy(*each)) for each in zip(users, tokens, strict=True)]
    spoken = asyncio.create_task(door.rig.buy(sku, new_id("buyer")))
    await inventory.batch_arrived.wait()
    inventory.open.set()
    assert set(await asyncio.gather(*crowd)) == {"PURCHASE_OUTCOME_RESERVED"}
    await spoken
    assert len(inventory.batches) < 21
    assert sum(inventory.batches) == 21


async def test_a_callback_may_be_longer_than_other_calls_and_is_passed_on_raw(door: Door) -> None:
    """Forty kilobytes that are no JSON arrive as they were sent; more than 64 KiB do not."""
    body = b"\xff\x00" * 20_000
    answer = await door.call("POST", "/v1/payments/psp:callback", body, webhook_signature="v1")
    assert answer.status == 200
    received = door.rig.services.orders.callbacks[-1]
    assert (received.provider, received.body) == ("psp", body)
    assert received.headers["webhook-signature"] == "v1"
    if door.version == "http/1.1":
        answer = await door.call("POST", "/v1/payments/psp:callback", body * 2)
        assert (answer.status, answer.reason) == (413, "INVALID_FIELD")
