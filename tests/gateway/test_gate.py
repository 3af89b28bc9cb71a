"""What callers without an identity can make the gateway do: their address pays, and nobody else.

One body for both fronts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2
from prometheus_client import REGISTRY

from gateway.sales import UNTOLD_EVERY_S
from seckill.status import reason_of
from seckill.v1 import gateway_pb2, order_pb2
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, Metadata, details, failure, open_rig
from tests.kits.http import Version, call
from tests.kits.waiting import eventually

ORDER_NO = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
BAD_TOKEN = (("authorization", "Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.e30.c2ln"),)
BURST = 3

Ask = Callable[[GatewayRig, Metadata], Awaitable[Any]]


def sale(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A sku that nobody else asks for."""
    request = gateway_pb2.GatewayServiceGetSaleRequest(sku=new_id("none"))
    return rig.stub.GetSale(request, metadata=metadata, timeout=CALL_S)


def listing(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A page."""
    request = gateway_pb2.GatewayServiceListSalesRequest()
    return rig.stub.ListSales(request, metadata=metadata, timeout=CALL_S)


def issue(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A purchase token."""
    request = gateway_pb2.IssuePurchaseTokenRequest(sku=new_id("none"))
    return rig.stub.IssuePurchaseToken(request, metadata=metadata, timeout=CALL_S)


def purchase(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """An attempt."""
    request = gateway_pb2.PurchaseRequest(sku=new_id("none"), request_id="r")
    return rig.stub.Purchase(request, metadata=metadata, timeout=CALL_S)


def poll(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """An order."""
    request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=ORDER_NO)
    return rig.stub.GetOrder(request, metadata=metadata, timeout=CALL_S)


def pay(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A payment."""
    request = gateway_pb2.GatewayServicePayOrderRequest(
        order_no=ORDER_NO, payment_id="p", amount=PRICE
    )
    return rig.stub.PayOrder(request, metadata=metadata, timeout=CALL_S)


def cancel(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A cancellation."""
    request = gateway_pb2.GatewayServiceCancelOrderRequest(order_no=ORDER_NO)
    return rig.stub.CancelOrder(request, metadata=metadata, timeout=CALL_S)


async def watch(rig: GatewayRig, metadata: Metadata) -> Any:
    """The first state of an order."""
    request = gateway_pb2.GatewayServiceWatchOrderRequest(order_no=ORDER_NO)
    return await rig.stub.WatchOrder(request, metadata=metadata, timeout=CALL_S).read()


def callback(rig: GatewayRig, metadata: Metadata) -> Awaitable[Any]:
    """A payment provider's callback."""
    request = gateway_pb2.GatewayServiceReceivePaymentCallbackRequest(
        provider="psp", body=httpbody_pb2.HttpBody(content_type="application/json", data=b"{}")
    )
    return rig.stub.ReceivePaymentCallback(request, metadata=metadata, timeout=CALL_S)


SHOPPING: tuple[Ask, ...] = (sale, listing, issue, purchase)
ABOUT_ORDERS: tuple[Ask, ...] = (poll, pay, cancel, watch)


@pytest.fixture
async def charged(front: str, tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway that lets an address make three calls of a kind; loopback is not exempt."""
    async with AsyncExitStack() as stack:
        yield await open_rig(
            stack,
            tmp_path,
            front,
            gateway_ip_exempt="",
            **{
                f"gateway_{what}{kind}": value
                for kind in ("_ip", "_ip_orders", "_ip_callbacks")
                for what, value in (("rate", 0.01), ("burst", BURST))
            },
        )


async def outcome(call: Awaitable[Any]) -> str:
    """The reason of its failure, "" if it went well."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error) or ""
    return ""


@pytest.mark.parametrize("ask", [*SHOPPING, *ABOUT_ORDERS, callback])
async def test_every_call_without_an_identity_is_charged_to_its_address(
    charged: GatewayRig, ask: Ask
) -> None:
    """Unknown skus, bad tokens, lists, callbacks: the fourth is refused, and verified no more."""
    reasons = [await outcome(ask(charged, BAD_TOKEN)) for _ in range(BURST)]
    assert "RATE_LIMITED" not in reasons
    verified = REGISTRY.get_sample_value("seckill_jwt_verifications_total")
    forged = (*BAD_TOKEN, ("seckill-peer", "ipv4:192.0.2.7:1"), ("x-forwarded-for", "192.0.2.8"))
    for metadata in (BAD_TOKEN, forged):
        refused = await failure(ask(charged, metadata))
        assert reason_of(refused) == "RATE_LIMITED"
        assert details(refused)["QuotaFailure"].violations[0].subject.startswith("ip")
    assert REGISTRY.get_sample_value("seckill_jwt_verifications_total") == verified


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
async def test_a_call_in_json_is_charged_to_its_address_too(
    tmp_path: Path, version: Version
) -> None:
    """Of a batched method and of another one; a forged peer changes nothing."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack, tmp_path, "http2", gateway_ip_exempt="", gateway_rate_ip=0.01, gateway_burst_ip=2
        )
        forged = {"seckill-peer": "ipv4:192.0.2.7:1"}
        answers = [
            await call(rig.gateway.port, "GET", path, headers=forged, version=version)
            for path in ("/v1/sales", "/v1/sales/none", "/v1/sales", "/v1/sales/none")
        ]
        assert [answer.status for answer in answers] == [200, 404, 429, 429]


async def test_those_who_buy_leave_their_address_room_to_poll_and_pay(charged: GatewayRig) -> None:
    """And the other way round."""
    for full, other in ((purchase, poll), (pay, callback)):
        reasons = [await outcome(full(charged, BAD_TOKEN)) for _ in range(BURST + 1)]
        assert reasons[-1] == "RATE_LIMITED"
        assert await outcome(other(charged, BAD_TOKEN)) != "RATE_LIMITED"


async def test_who_invents_skus_hardly_reaches_inventory(rig: GatewayRig) -> None:
    """Whichever method they try: the snapshot of the sales says that there are none. Now and then
    one is asked for, which may be of an archived sale.
    """
    started_s = time.monotonic()
    for ask in (sale, issue, purchase):
        calls = [outcome(ask(rig, rig.identity("u"))) for _ in range(100)]
        assert set(await asyncio.gather(*calls)) == {"SALE_NOT_FOUND"}
    asked = rig.services.inventory.asked
    assert len(asked) <= 1 + (time.monotonic() - started_s) / UNTOLD_EVERY_S


async def test_a_sale_created_a_moment_ago_is_waited_for(rig: GatewayRig) -> None:
    """The call comes first, and then the notice of the sale."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms(), announce=False)
    asking = asyncio.ensure_future(
        rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)
    )
    inventory.announce(sku)
    assert (await asking).sale.terms.sku == sku


async def test_lists_are_read_once_a_second_in_few_sizes(rig: GatewayRig) -> None:
    """A hundred lists of all sizes are a few questions; a page is no larger than a hundred."""
    skus = {rig.services.inventory.put(sale_terms()) for _ in range(3)}

    async def sizes(size: int) -> int:
        request = gateway_pb2.GatewayServiceListSalesRequest(page_size=size)
        page = await rig.stub.ListSales(request, timeout=CALL_S)
        assert {found.terms.sku for found in page.sales} <= skus
        return len(page.sales)

    found = await asyncio.gather(*(sizes(size) for size in range(1, 101)))
    assert found[0] == 1
    assert all(count <= size for size, count in enumerate(found, start=1))
    asked = rig.services.inventory.listed
    # A slow machine may take longer than a second.
    assert len(asked) <= 30
    await sizes(1_000)
    assert max(request.page_size for request in asked) == 100
    request = gateway_pb2.GatewayServiceListSalesRequest(page_token="nonsense")
    assert reason_of(await failure(rig.stub.ListSales(request))) == "INVALID_FIELD"


@pytest.mark.parametrize("ask", ABOUT_ORDERS)
async def test_a_foreign_order_is_as_missing_as_none(rig: GatewayRig, ask: Ask) -> None:
    """The same code, message and details, so that nobody learns which numbers exist."""
    stranger = rig.identity("stranger")
    unknown = await failure(ask(rig, stranger))
    rig.services.orders.orders[ORDER_NO] = order_pb2.Order(order_no=ORDER_NO, user_id="owner")
    foreign = await failure(ask(rig, stranger))
    assert unknown.code() is foreign.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(foreign) == "ORDER_NOT_FOUND"
    assert (unknown.details(), details(unknown)) == (foreign.details(), details(foreign))


async def test_watches_of_a_buyer_and_of_an_order_are_bounded(front: str, tmp_path: Path) -> None:
    """Two of an order and three of a buyer; a stranger takes nothing from the owner."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack, tmp_path, front, gateway_watches_order_max=2, gateway_watches_buyer_max=3
        )
        orders = rig.services.orders
        orders.hold_watches = True
        numbers = [f"{n:026d}" for n in range(3)]
        for number in numbers:
            orders.orders[number] = order_pb2.Order(order_no=number, user_id="owner")

        def watching(number: str, user: str) -> Any:
            request = gateway_pb2.GatewayServiceWatchOrderRequest(order_no=number)
            return rig.stub.WatchOrder(request, metadata=rig.identity(user))

        opened = [watching(number, "owner") for number in (numbers[0], numbers[0], numbers[1])]
        for stream in opened:
            await stream.read()
        for number, subject in ((numbers[0], "watches_buyer"), (numbers[2], "watches_buyer")):
            refused = await failure(watching(number, "owner").read())
            assert reason_of(refused) == "RATE_LIMITED"
            assert details(refused)["QuotaFailure"].violations[0].subject == subject
        assert reason_of(await failure(watching(numbers[0], "x").read())) == "ORDER_NOT_FOUND"
        opened.pop().cancel()

        async def refusal_of_one_more() -> str:
            refused = await failure(watching(numbers[0], "owner").read())
            return str(details(refused)["QuotaFailure"].violations[0].subject)

        await eventually(refusal_of_one_more, lambda subject: subject == "watches_order")
        for stream in opened:
            stream.cancel()


def calls_to_services() -> float:
    """Calls that the gateway has begun, to any service."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "grpc_client_started_total"
    )


async def test_a_refused_call_does_no_io(charged: GatewayRig) -> None:
    """Whatever it is refused for, no service and so no store hears of it."""
    inventory = charged.services.inventory
    selling, gone = inventory.put(sale_terms()), inventory.put(sale_terms(units=1))
    token = await charged.token(selling, "buyer")
    inventory.sales[gone].sold_out = True
    inventory.sales[gone].remaining_units = 0
    inventory.announce(gone)

    async def sold_out() -> bool:
        view = charged.gateway.sales.get(gone)
        return view is not None and view.holders is not None

    await eventually(sold_out)
    before = calls_to_services()

    async def attempt(metadata: Metadata, **fields: Any) -> str:
        request = gateway_pb2.PurchaseRequest(
            **{"sku": selling, "request_id": "r", "purchase_token": token, **fields}
        )
        return await outcome(charged.stub.Purchase(request, metadata=metadata, timeout=CALL_S))

    buyer = charged.identity("buyer")
    assert await attempt(buyer, sku=gone) == ""
    assert await attempt(buyer, quantity=1_000) == "INVALID_FIELD"
    assert await attempt(BAD_TOKEN) == "IDENTITY_INVALID"
    assert await attempt(charged.identity("thief")) == "PURCHASE_TOKEN_FOREIGN"
    assert await attempt(buyer) == "RATE_LIMITED"
    assert await outcome(listing(charged, ())) == "RATE_LIMITED"
    assert await outcome(poll(charged, BAD_TOKEN)) == "IDENTITY_INVALID"
    inventory.set_kill_switch(on=True)

    async def halted() -> bool:
        return charged.gateway.sales.halted

    await eventually(halted)
    assert await attempt(buyer) == "KILL_SWITCH"
    assert calls_to_services() == before
