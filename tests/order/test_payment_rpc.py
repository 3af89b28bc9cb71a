"""Who may state payments, and how operators see and settle them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack import Stores
from seckill.status import reason_of
from seckill.v1 import order_admin_pb2, order_pb2, order_pb2_grpc, payment_pb2, sale_pb2
from tests.kits.factories import PRICE, new_id
from tests.kits.gateway import details
from tests.kits.operator import Desk, Metadata, authorization, open_desk
from tests.kits.payments import Till, open_till
from tests.kits.stores import Topics

OpenDesk = Callable[..., AbstractAsyncContextManager[Desk]]
SERVICE = ["service"]


@pytest.fixture
async def till(database_dsn: str) -> AsyncIterator[Till]:
    """A sale of the test's own."""
    async with open_till(database_dsn) as opened:
        yield opened


@pytest.fixture
def desk_with(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> OpenDesk:
    """Return what opens a desk, with settings."""
    return partial(
        open_desk,
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
    )


@pytest.fixture
async def desk(desk_with: OpenDesk) -> AsyncIterator[Desk]:
    """A desk before a service that knows the issuer of tokens."""
    async with desk_with() as opened:
        yield opened


def statement(order_no: str, **changes: Any) -> order_pb2.ConfirmPaymentRequest:
    """What the shop states of a unit that was paid, but for the changes."""
    facts: dict[str, Any] = {
        "provider": "psp",
        "payment_id": new_id("payment"),
        "amount": PRICE,
    }
    return order_pb2.ConfirmPaymentRequest(order_no=order_no, **(facts | changes))


async def confirm(
    desk: Desk, request: order_pb2.ConfirmPaymentRequest, metadata: Metadata = ()
) -> order_pb2.ConfirmPaymentResponse:
    """Call ConfirmPayment. Raises AioRpcError."""
    async with grpc.aio.insecure_channel(desk.address) as channel:
        stub = order_pb2_grpc.OrderServiceStub(channel)
        return await stub.ConfirmPayment(request, metadata=metadata)


def service(desk: Desk) -> Metadata:
    """The metadata of the shop's backend."""
    return authorization(desk.issuer.token("shop", roles=SERVICE))


async def refusal(
    desk: Desk, request: order_pb2.ConfirmPaymentRequest, metadata: Metadata
) -> tuple[grpc.StatusCode, str | None]:
    """How ConfirmPayment fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await confirm(desk, request, metadata)
    return caught.value.code(), reason_of(caught.value)


async def test_services_and_operators_state_payments(desk: Desk, till: Till) -> None:
    """Both roles do; the order is paid, and stated again the answer is the same."""
    for roles in (SERVICE, ["operator"], ["buyer", "service"]):
        metadata = authorization(desk.issuer.token("shop", roles=roles))
        request = statement(await till.order())
        answers = [await confirm(desk, request, metadata) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0].order.state == order_pb2.ORDER_STATE_PAID
        assert answers[0].payment.state == payment_pb2.PAYMENT_STATE_APPLIED
        assert answers[0].payment.provider == "psp"


async def test_buyers_state_no_payments(desk: Desk, till: Till) -> None:
    """Without a token UNAUTHENTICATED, without a role PERMISSION_DENIED; nothing is on record."""
    request = statement(await till.order())
    missing = (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_MISSING")
    assert await refusal(desk, request, ()) == missing
    not_allowed = (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
    for roles in ([], ["services"], ["buyer"]):
        metadata = authorization(desk.issuer.token("buyer-1", roles=roles))
        assert await refusal(desk, request, metadata) == not_allowed
    assert await till.sql.fetchval("SELECT count(*) FROM payments") == 0


async def test_development_without_keys_admits_the_shop(desk_with: OpenDesk, till: Till) -> None:
    """As the whole service does in development: nothing needs to be configured."""
    async with desk_with(order_operator_jwks="") as desk:
        answer = await confirm(desk, statement(await till.order()))
    assert answer.order.state == order_pb2.ORDER_STATE_PAID


async def test_production_without_keys_admits_no_one(desk_with: OpenDesk, till: Till) -> None:
    """ConfirmPayment names the setting; PayOrder, the sandbox, does not exist."""
    async with desk_with(order_operator_jwks="", profile="production") as desk:
        request = statement(await till.order())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await confirm(desk, request, service(desk))
        info = details(caught.value)["ErrorInfo"]
        assert (info.reason, info.metadata["setting"]) == (
            "NOT_ALLOWED",
            "SECKILL_ORDER_OPERATOR_JWKS",
        )
        async with grpc.aio.insecure_channel(desk.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await order_pb2_grpc.OrderServiceStub(channel).PayOrder(
                    order_pb2.PayOrderRequest(
                        order_no=request.order_no, payment_id="invented", amount=PRICE
                    )
                )
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(caught.value) == "PAYMENT_SANDBOX_OFF"
    assert (await till.orders.get(request.order_no))["status"] == "pending"


async def test_refusals_say_what_became_of_the_payment(desk: Desk, till: Till) -> None:
    """ErrorInfo has the payment's state and reason; a second use names the first order."""
    number = await till.order("paid")
    request = statement(number)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await confirm(desk, request, service(desk))
    info = details(caught.value)["ErrorInfo"]
    assert info.reason == "ORDER_STATE"
    assert dict(info.metadata) == {
        "payment_state": "to_refund",
        "payment_reason": "already_paid",
    }
    request.order_no = await till.order()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await confirm(desk, request, service(desk))
    info = details(caught.value)["ErrorInfo"]
    assert (info.reason, info.metadata["order_no"]) == ("PAYMENT_USED", number)


async def test_impossible_statements_name_the_field(desk: Desk, till: Till) -> None:
    """INVALID_ARGUMENT for each of them, and nothing is on record."""
    number = await till.order()
    wrong: list[dict[str, Any]] = [
        {"order_no": "no number"},
        {"provider": ""},
        {"provider": "sandbox"},
        {"provider": "unknown"},
        {"provider": "PSP"},
        {"provider": "a" * 41},
        {"payment_id": ""},
        {"payment_id": "two words"},
        {"payment_id": "p" * 65},
        {"amount": sale_pb2.Money(currency="EUR", minor_units=-1)},
        {"amount": sale_pb2.Money(currency="euro", minor_units=1)},
        {"amount": None},
    ]
    for change in wrong:
        request = statement(**{"order_no": number, **change})
        told = await refusal(desk, request, service(desk))
        assert told == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), change
    assert await till.sql.fetchval("SELECT count(*) FROM payments") == 0


async def test_operators_list_what_is_owed_and_settle_it(desk: Desk, till: Till) -> None:
    """`payment list --to-refund` shows it until `payment settle` has recorded the refund."""
    request = statement(await till.order("cancelled"), payment_id="late-1")
    await refusal(desk, request, service(desk))
    await confirm(desk, statement(await till.order()), service(desk))
    shown = await desk.command("payment", "list", "--to-refund")
    assert "late-1" in shown
    assert "to refund" in shown
    assert "too late" in shown
    assert "1 payments" in shown
    assert "2 payments" in await desk.command("payment", "list")
    assert "1 payments" in await desk.command("payment", "list", "--order-no", request.order_no)
    for _ in range(2):
        settled = await desk.command("payment", "settle", "psp", "late-1", "--refund-id", "r-1")
        assert "refunded" in settled
    assert "0 payments" in await desk.command("payment", "list", "--to-refund")
    again = await desk.command("payment", "settle", "psp", "late-1", "--refund-id", "r", fails=True)
    assert "PAYMENT_STATE" in again
    lost = await desk.command("payment", "settle", "psp", "lost", "--refund-id", "r", fails=True)
    assert "PAYMENT_NOT_FOUND" in lost


async def test_operator_states_a_payment(desk: Desk, till: Till) -> None:
    """`order pay` needs the operator's token, and says who took the money."""
    number = await till.order()
    assert "paid" in await desk.command("order", "pay", number, "--provider", "bank")
    assert await till.sql.fetchval("SELECT provider FROM payments") == "bank"


async def test_pages_of_payments_hold_each_once(desk: Desk, till: Till) -> None:
    """Oldest first; a token of another kind is refused."""
    wanted = []
    for _ in range(7):
        request = statement(await till.order("cancelled"))
        await refusal(desk, request, service(desk))
        wanted.append(request.payment_id)
    found: list[str] = []
    token = ""
    while True:
        page = await desk.stub.ListPayments(
            order_admin_pb2.ListPaymentsRequest(
                state=payment_pb2.PAYMENT_STATE_TO_REFUND, page_size=3, page_token=token
            ),
            metadata=desk.metadata,
        )
        found += [payment.payment_id for payment in page.payments]
        token = page.next_page_token
        if not token:
            break
    assert found == wanted
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.stub.ListPayments(
            order_admin_pb2.ListPaymentsRequest(page_token="x"), metadata=desk.metadata
        )
    assert reason_of(caught.value) == "INVALID_FIELD"
