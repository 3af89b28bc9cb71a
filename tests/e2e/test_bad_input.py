"""Services answer bad input with an error that names the field, and change nothing."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from seckill.client import Outcome
from seckill.status import DETAILS_KEY, reason_of
from seckill.v1 import (
    gateway_pb2,
    inventory_pb2,
    order_pb2,
    sale_pb2,
)
from tests.kits.actions import (
    CALL_S,
    Gateway,
    Inventory,
    Orders,
    buy,
    open_sale,
    order_when_there,
    purchase_token,
)
from tests.kits.factories import PRICE, moment, new_id, sale_terms
from tests.kits.mesh import Mesh

pytestmark = pytest.mark.both_fronts

UNKNOWN_ORDER = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Return the error that the call ends with; fail if it succeeds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def named_fields(error: grpc.aio.AioRpcError) -> Sequence[str]:
    """Return the fields that an error's BadRequest names."""
    bad = error_details_pb2.BadRequest()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(bad)
    return [violation.field for violation in bad.field_violations]


def with_terms(change: Callable[[sale_pb2.SaleTerms], object]) -> sale_pb2.SaleTerms:
    """Return good terms with one thing changed."""
    terms = sale_terms()
    change(terms)
    return terms


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda terms: setattr(terms, "sku", ""), "terms.sku"),
        (lambda terms: setattr(terms, "sku", "a" * 65), "terms.sku"),
        (lambda terms: setattr(terms, "sku", "a{b}"), "terms.sku"),
        (lambda terms: setattr(terms, "total_units", 0), "terms.total_units"),
        (lambda terms: setattr(terms, "total_units", -5), "terms.total_units"),
        (lambda terms: setattr(terms, "purchase_limit", -1), "terms.purchase_limit"),
        (
            lambda terms: setattr(terms.unit_price, "minor_units", -1),
            "terms.unit_price.minor_units",
        ),
        (lambda terms: setattr(terms.unit_price, "currency", "yuan"), "terms.unit_price.currency"),
        (lambda terms: terms.end_time.CopyFrom(moment(-7200)), "terms.end_time"),
        (lambda terms: terms.ClearField("end_time"), "terms.end_time"),
        (lambda terms: terms.payment_window.FromSeconds(-1), "terms.payment_window"),
    ],
)
async def test_bad_terms_are_named(
    inventory: Inventory, change: Callable[[sale_pb2.SaleTerms], object], field: str
) -> None:
    """Each broken constraint of a sale is INVALID_ARGUMENT with its field."""
    error = await refusal(
        inventory.CreateSale(
            inventory_pb2.CreateSaleRequest(terms=with_terms(change)), timeout=CALL_S
        )
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in named_fields(error)


async def test_creating_a_sale_again_is_the_same_sale_and_other_terms_are_refused(
    inventory: Inventory,
) -> None:
    """CreateSale may be repeated; a different price under the same sku is ALREADY_EXISTS."""
    terms = sale_terms(units=7)
    request = inventory_pb2.CreateSaleRequest(terms=terms)
    first = await inventory.CreateSale(request, timeout=CALL_S)
    second = await inventory.CreateSale(request, timeout=CALL_S)
    assert first.sale == second.sale
    request.terms.unit_price.minor_units += 1
    error = await refusal(inventory.CreateSale(request, timeout=CALL_S))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_what_does_not_exist_is_not_found(
    mesh: Mesh, gateway: Gateway, inventory: Inventory, orders: Orders
) -> None:
    """Each service answers unknown skus and order numbers with NOT_FOUND and a reason."""
    sku, user = new_id("nothing"), mesh.identity(new_id("buyer"))
    calls: dict[str, list[Awaitable[Any]]] = {
        "SALE_NOT_FOUND": [
            gateway.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S),
            gateway.IssuePurchaseToken(
                gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=user, timeout=CALL_S
            ),
            inventory.GetSale(inventory_pb2.GetSaleRequest(sku=sku), timeout=CALL_S),
            inventory.Reserve(
                inventory_pb2.ReserveRequest(
                    sku=sku,
                    item=inventory_pb2.ReserveItem(user_id="u", request_id="r", quantity=1),
                ),
                timeout=CALL_S,
            ),
            inventory.UpdateSale(
                inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_PAUSED),
                timeout=CALL_S,
            ),
            orders.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku), timeout=CALL_S),
        ],
        "ORDER_NOT_FOUND": [
            gateway.GetOrder(
                gateway_pb2.GatewayServiceGetOrderRequest(order_no=UNKNOWN_ORDER),
                metadata=user,
                timeout=CALL_S,
            ),
            orders.GetOrder(order_pb2.GetOrderRequest(order_no=UNKNOWN_ORDER), timeout=CALL_S),
            orders.CancelOrder(
                order_pb2.CancelOrderRequest(order_no=UNKNOWN_ORDER), timeout=CALL_S
            ),
        ],
    }
    for reason, pending in calls.items():
        for call in pending:
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert reason_of(error) == reason


async def test_a_bad_purchase_names_its_field(mesh: Mesh, gateway: Gateway) -> None:
    """A purchase with a bad sku, request id or quantity is INVALID_ARGUMENT with its field."""
    sku = await open_sale(mesh, sale_terms(limit=2))
    user = new_id("buyer")
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    good = {"sku": sku, "quantity": 1, "purchase_token": token, "request_id": "r"}
    for field, value in [
        ("sku", ""),
        ("sku", "s" * 65),
        ("request_id", ""),
        ("request_id", "r" * 65),
        ("request_id", "with space"),
        ("quantity", -1),
        ("quantity", 3),
    ]:
        request = gateway_pb2.PurchaseRequest(**{**good, field: value})  # type: ignore[arg-type]
        error = await refusal(
            gateway.Purchase(request, metadata=mesh.identity(user), timeout=CALL_S)
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (field, value)
        assert list(named_fields(error)) == [field]


async def test_bad_page_tokens_are_named(
    gateway: Gateway, inventory: Inventory, orders: Orders
) -> None:
    """A page token that no page gave and a page size out of range are INVALID_ARGUMENT."""
    calls: list[tuple[Awaitable[Any], str]] = [
        (
            gateway.ListSales(
                gateway_pb2.GatewayServiceListSalesRequest(page_token="?"), timeout=CALL_S
            ),
            "page_token",
        ),
        (
            inventory.ListSales(inventory_pb2.ListSalesRequest(page_token="bm8="), timeout=CALL_S),
            "page_token",
        ),
        (
            orders.ListOrders(order_pb2.ListOrdersRequest(page_token="!"), timeout=CALL_S),
            "page_token",
        ),
        (
            orders.ListOrders(order_pb2.ListOrdersRequest(page_size=1001), timeout=CALL_S),
            "page_size",
        ),
    ]
    for call, field in calls:
        error = await refusal(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(named_fields(error)) == [field]


async def test_an_identity_is_required_and_verified(mesh: Mesh, gateway: Gateway) -> None:
    """Each call of a buyer without an identity, or with a bad one, is UNAUTHENTICATED."""
    sku = await open_sale(mesh, sale_terms())
    forged = mesh.issuer.token("buyer")[:-3] + "abc"
    expired = mesh.issuer.token("buyer", ttl_s=-60)
    token_request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    order_request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=UNKNOWN_ORDER)
    cancel_request = gateway_pb2.GatewayServiceCancelOrderRequest(order_no=UNKNOWN_ORDER)
    purchase = gateway_pb2.PurchaseRequest(
        sku=sku, quantity=1, purchase_token="none", request_id="r"
    )
    for metadata, reason in [
        ((), "IDENTITY_MISSING"),
        ((("authorization", "Basic abc"),), "IDENTITY_MISSING"),
        ((("authorization", "Bearer nonsense"),), "IDENTITY_INVALID"),
        ((("authorization", f"Bearer {forged}"),), "IDENTITY_INVALID"),
        ((("authorization", f"Bearer {expired}"),), "IDENTITY_INVALID"),
    ]:
        calls: list[Awaitable[Any]] = [
            gateway.IssuePurchaseToken(token_request, metadata=metadata, timeout=CALL_S),
            gateway.Purchase(purchase, metadata=metadata, timeout=CALL_S),
            gateway.GetOrder(order_request, metadata=metadata, timeout=CALL_S),
            gateway.CancelOrder(cancel_request, metadata=metadata, timeout=CALL_S),
        ]
        for call in calls:
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason_of(error) == reason


async def test_a_purchase_token_serves_its_buyer_and_sku_only(mesh: Mesh, gateway: Gateway) -> None:
    """A token that is cut, flipped, or of another buyer or sku is PERMISSION_DENIED."""
    sku = await open_sale(mesh, sale_terms())
    other_sku = await open_sale(mesh, sale_terms())
    user = new_id("buyer")
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    foreign = await purchase_token(gateway, mesh, sku=sku, user=new_id("buyer"))
    elsewhere = await purchase_token(gateway, mesh, sku=other_sku, user=user)
    flipped = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for bad, reason in [
        ("", "PURCHASE_TOKEN_INVALID"),
        (token[:-4], "PURCHASE_TOKEN_INVALID"),
        (flipped, "PURCHASE_TOKEN_INVALID"),
        (foreign, "PURCHASE_TOKEN_FOREIGN"),
        (elsewhere, "PURCHASE_TOKEN_FOREIGN"),
    ]:
        error = await refusal(
            gateway.Purchase(
                gateway_pb2.PurchaseRequest(
                    sku=sku, quantity=1, purchase_token=bad, request_id="r"
                ),
                metadata=mesh.identity(user),
                timeout=CALL_S,
            )
        )
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(error) == reason


async def test_another_buyers_order_is_out_of_reach(mesh: Mesh, gateway: Gateway) -> None:
    """Reading, paying and cancelling another buyer's order is as if it did not exist."""
    sku = await open_sale(mesh, sale_terms())
    owner, stranger = new_id("buyer"), mesh.identity(new_id("buyer"))
    bought = await buy(gateway, mesh, sku=sku, user=owner)
    await order_when_there(gateway, mesh, order_no=bought.order_no, user=owner)
    number = bought.order_no
    for call in (
        gateway.GetOrder(
            gateway_pb2.GatewayServiceGetOrderRequest(order_no=number),
            metadata=stranger,
            timeout=CALL_S,
        ),
        gateway.PayOrder(
            gateway_pb2.GatewayServicePayOrderRequest(
                order_no=number, payment_id="p", amount=PRICE
            ),
            metadata=stranger,
            timeout=CALL_S,
        ),
        gateway.CancelOrder(
            gateway_pb2.GatewayServiceCancelOrderRequest(order_no=number),
            metadata=stranger,
            timeout=CALL_S,
        ),
    ):
        error = await refusal(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(error) == "ORDER_NOT_FOUND"


async def test_the_window_and_a_pause_are_answers_and_no_errors(
    mesh: Mesh, gateway: Gateway, inventory: Inventory
) -> None:
    """NOT_STARTED, ENDED and PAUSED are outcomes with status OK, and name no order."""
    early = await open_sale(mesh, sale_terms(starts_in_s=600))
    over = await open_sale(mesh, sale_terms(starts_in_s=-100))
    await inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(sku=over, end_time=moment(-50)), timeout=CALL_S
    )
    paused = await open_sale(mesh, sale_terms())
    await inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(sku=paused, state=sale_pb2.SALE_STATE_PAUSED),
        timeout=CALL_S,
    )
    for sku, outcome in [
        (early, Outcome.NOT_STARTED),
        (over, Outcome.ENDED),
        (paused, Outcome.PAUSED),
    ]:
        answer = await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
        assert answer.outcome is outcome
        assert not answer.order_no
