"""Callbacks of payment providers: verified before anything else, each with its answer and row."""

import hmac
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from devstack import Stores
from order_svc.settings import OrderSettings
from seckill.order_no import make_order_nos
from seckill.status import reason_of
from seckill.v1 import order_pb2, order_pb2_grpc, payment_pb2
from tests.kits.factories import PRICE, new_id
from tests.kits.operator import Desk, open_desk
from tests.kits.payments import Till, open_till
from tests.kits.stores import Topics

SECRETS = {
    "psp": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "stripe": "whsec_stripe_signs_with_the_text",
}
OLD_SECRET = "whsec_" + "b2xkIHNlY3JldCwgYmVmb3JlIHRoZSBjaGFuZ2U="
PROVIDERS = [
    {"name": "psp", "scheme": "standard-webhooks", "secret": f"{SECRETS['psp']} {OLD_SECRET}"},
    {"name": "stripe", "scheme": "stripe", "secret": SECRETS["stripe"]},
]
Request = order_pb2.ReceivePaymentCallbackRequest


@pytest.fixture
async def till(database_dsn: str) -> AsyncIterator[Till]:
    """A sale of the test's own."""
    async with open_till(database_dsn) as opened:
        yield opened


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """An operator before a service that listens to two providers."""
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
        order_payment_providers=json.dumps(PROVIDERS),
    ) as opened:
        yield opened


def standard(order_no: object, payment_id: str, amount: object, currency: str) -> bytes:
    """The body of our own notice."""
    money = {"currency": currency, "minor_units": amount}
    data = {"order_no": order_no, "payment_id": payment_id, "amount": money}
    return json.dumps({"type": "payment.succeeded", "data": data}).encode()


def stripe(order_no: object, payment_id: str, amount: object, currency: str) -> bytes:
    """The body of Stripe's notice, as far as it matters."""
    intent = {
        "id": payment_id,
        "amount_received": amount,
        "currency": currency.lower(),
        "metadata": {"order_no": order_no},
    }
    event = {"type": "payment_intent.succeeded", "data": {"object": intent}}
    return json.dumps(event).encode()


BODIES = {"psp": standard, "stripe": stripe}


def signed(provider: str, body: bytes, *, at_s: float | None = None, secret: str = "") -> Request:
    """The callback that the provider sends, signed at a time."""
    moment = int(time.time() if at_s is None else at_s)
    key = secret or SECRETS[provider]
    headers: Mapping[str, str]
    if provider == "psp":
        signature = Webhook(key).sign("msg-1", datetime.fromtimestamp(moment, UTC), body.decode())
        headers = {
            "webhook-id": "msg-1",
            "webhook-timestamp": str(moment),
            "webhook-signature": f"v1a,other {signature}",
        }
    else:
        digest = hmac.digest(key.encode(), f"{moment}.".encode() + body, "sha256").hex()
        headers = {"stripe-signature": f"t={moment},v1={'0' * 64},v1={digest},v0=unused"}
    return Request(provider=provider, headers=headers, body=body)


def notice(provider: str, order_no: object, **changes: Any) -> bytes:
    """The body that says that a unit was paid, but for the changes."""
    facts: dict[str, Any] = {
        "payment_id": new_id("payment"),
        "amount": PRICE.minor_units,
        "currency": PRICE.currency,
    }
    return BODIES[provider](order_no, **(facts | changes))


async def receive(desk: Desk, request: Request) -> payment_pb2.Payment:
    """Send a callback; return what became of its payment. Raises AioRpcError."""
    async with grpc.aio.insecure_channel(desk.address) as channel:
        stub = order_pb2_grpc.OrderServiceStub(channel)
        return (await stub.ReceivePaymentCallback(request)).payment


async def refusal(desk: Desk, request: Request) -> tuple[grpc.StatusCode, str | None]:
    """How a callback fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await receive(desk, request)
    return caught.value.code(), reason_of(caught.value)


@pytest.mark.parametrize("provider", SECRETS)
async def test_signed_callback_pays_its_order_once(desk: Desk, till: Till, provider: str) -> None:
    """A replay answers the same, and changes nothing."""
    number = await till.order()
    request = signed(provider, notice(provider, number))
    first, second = [await receive(desk, request) for _ in range(2)]
    assert first == second
    assert first.state == payment_pb2.PAYMENT_STATE_APPLIED
    assert (first.provider, first.order_no) == (provider, number)
    assert await till.announced(number) == ["paid"]
    assert (await till.orders.get(number))["payment_id"] == first.payment_id


@pytest.mark.parametrize("provider", SECRETS)
async def test_nothing_unsigned_is_looked_at(desk: Desk, till: Till, provider: str) -> None:
    """Another secret, body or time, too old or too early, no signature: nothing is on record."""
    number = await till.order()
    body = notice(provider, number)
    right = signed(provider, body)
    earlier = signed(provider, body, at_s=time.time() - 60)
    # A map of a message must not change while it is iterated: entries move, and some are missed.
    headers = {
        name: text.replace("v1,", "v1,A").replace("v1=", "v1=0")
        for name, text in earlier.headers.items()
    }
    wrong = [
        Request(provider=provider, body=body),
        signed(provider, body, at_s=time.time() - 310),
        signed(provider, body, at_s=time.time() + 400),
        signed(provider, body, secret="whsec_" + "A" * 32),
        Request(provider=provider, headers=right.headers, body=body + b" "),
        Request(provider=provider, headers=right.headers, body=b"\xff\xfe"),
        Request(provider=provider, headers=headers, body=body),
    ]
    wrong += [
        Request(provider=provider, headers=dict.fromkeys(right.headers, text), body=body)
        for text in ("", "nonsense", "t=,v1=", "v1", "t=1,t=2", "9" * 400, "t=" + "9" * 400)
    ]
    for request in wrong:
        told = await refusal(desk, request)
        assert told == (grpc.StatusCode.UNAUTHENTICATED, "PAYMENT_SIGNATURE_INVALID"), request
    assert await till.sql.fetchval("SELECT count(*) FROM payments") == 0


@pytest.mark.parametrize("provider", SECRETS)
@pytest.mark.parametrize(
    ("state", "changes", "reason"),
    [
        ("pending", {"amount": PRICE.minor_units - 1}, "WRONG_AMOUNT"),
        ("pending", {"currency": "XAU"}, "WRONG_CURRENCY"),
        ("expired", {}, "TOO_LATE"),
        ("paid", {}, "ALREADY_PAID"),
    ],
)
async def test_signed_payment_that_pays_nothing_is_on_record(
    desk: Desk, till: Till, provider: str, state: str, changes: dict[str, Any], reason: str
) -> None:
    """The provider is answered OK, so that it does not repeat what stands to be refunded."""
    number = await till.order(state)
    request = signed(provider, notice(provider, number, **changes))
    for _ in range(2):
        payment = await receive(desk, request)
        assert payment.state == payment_pb2.PAYMENT_STATE_TO_REFUND
        assert payment_pb2.PaymentReason.Name(payment.reason) == f"PAYMENT_REASON_{reason}"
    assert await till.sql.fetchval("SELECT count(*) FROM payments WHERE reason IS NOT NULL") == 1


@pytest.mark.parametrize("order_no", ["0" * 26, "basket-77"])
async def test_payment_for_no_order_of_ours_is_on_record(
    desk: Desk, till: Till, order_no: str
) -> None:
    """Also if what the shop told the provider is no order number: the money was taken."""
    payment = await receive(desk, signed("stripe", notice("stripe", order_no)))
    assert payment.reason == payment_pb2.PAYMENT_REASON_UNKNOWN_ORDER
    assert await till.announced(order_no) == ["payment_to_refund"]


async def test_order_on_its_way_is_asked_for_again(desk: Desk, till: Till) -> None:
    """A number that was just made is not unknown yet: the provider comes again."""
    del till
    young = signed("psp", notice("psp", new_order_no()))
    assert await refusal(desk, young) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")


def new_order_no() -> str:
    """A number that no order has."""
    (number,) = make_order_nos(["nobody"], now_s=time.time(), rng=random.Random())
    return number


async def test_second_use_of_a_payment_is_refused(desk: Desk, till: Till) -> None:
    """A payment that the provider states for two orders pays the first."""
    first, second = await till.order(), await till.order()
    payment_id = new_id("payment")
    await receive(desk, signed("psp", notice("psp", first, payment_id=payment_id)))
    again = signed("psp", notice("psp", second, payment_id=payment_id))
    assert await refusal(desk, again) == (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_USED")


async def test_both_secrets_count_while_one_is_changed(desk: Desk, till: Till) -> None:
    """What the old secret signed is taken, too."""
    request = signed("psp", notice("psp", await till.order()), secret=OLD_SECRET)
    assert (await receive(desk, request)).state == payment_pb2.PAYMENT_STATE_APPLIED


async def test_callback_without_a_payment_is_acknowledged(desk: Desk) -> None:
    """Other events, and payments that are for no order of ours."""
    bodies = {
        "psp": [b'{"type": "payment.failed"}', b"{}"],
        "stripe": [
            b'{"type": "charge.updated"}',
            b'{"type": "payment_intent.succeeded", "data": {"object": {"id": "pi_1"}}}',
        ],
    }
    for provider, some in bodies.items():
        for body in some:
            assert await receive(desk, signed(provider, body)) == payment_pb2.Payment()


async def test_signed_nonsense_is_an_invalid_argument(desk: Desk) -> None:
    """Each of it names a field, and none of it is on record."""
    nonsense = [
        ("psp", b"[]"),
        ("psp", b"not json"),
        ("psp", b"[" * 60_000),
        ("psp", standard(None, "p", 1, "EUR")),
        ("psp", standard("o", "p", "1", "EUR")),
        ("psp", standard("o", "p", True, "EUR")),
        ("psp", standard("o", "p", 1.5, "EUR")),
        ("psp", standard("o", "p", -1, "EUR")),
        ("psp", standard("o", "p", 10**30, "EUR")),
        ("psp", standard("o", "p", 1, "euro")),
        ("psp", standard("o", "p", 1, "\ud800")),
        ("psp", standard("\ud800", "p", 1, "EUR")),
        ("psp", standard("o", "two words", 1, "EUR")),
        ("psp", standard("o\0", "p", 1, "EUR")),
        ("stripe", stripe(7, "p", 1, "EUR")),
        ("stripe", stripe("o", "p" * 65, 1, "EUR")),
    ]
    for provider, body in nonsense:
        told = await refusal(desk, signed(provider, body))
        assert told == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), body


async def test_stripe_counts_some_currencies_in_hundredths(desk: Desk) -> None:
    """ISK 5 is 500 for Stripe, and 5 in ISO 4217."""
    body = stripe("basket-78", new_id("payment"), 500, "ISK")
    payment = await receive(desk, signed("stripe", body))
    assert (payment.amount.minor_units, payment.amount.currency) == (5, "ISK")


async def test_unknown_provider_is_not_found(desk: Desk) -> None:
    """Nothing is verified for a name that is not in the settings."""
    request = signed("psp", notice("psp", "0" * 26))
    for name in ("", "paypal", "../psp"):
        request.provider = name
        told = await refusal(desk, request)
        assert told == (grpc.StatusCode.NOT_FOUND, "PAYMENT_PROVIDER_NOT_FOUND")


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ("[{}]", "Field required"),
        ("nonsense", "Invalid JSON"),
        ([{**PROVIDERS[0], "name": "sandbox"}], "is reserved"),
        ([{**PROVIDERS[0], "name": "Psp"}], "pattern"),
        ([{**PROVIDERS[0], "scheme": "paypal"}], "must be one of standard-webhooks, stripe"),
        ([{**PROVIDERS[0], "secret": "short"}], "at least 16"),
        ([PROVIDERS[0], PROVIDERS[0]], "same name"),
    ],
)
def test_bad_provider_is_refused_at_start(providers: object, problem: str) -> None:
    """The message says what is wrong, and quotes no secret."""
    text = providers if isinstance(providers, str) else json.dumps(providers)
    facts = {"postgres_dsn": "postgresql://n", "redis_url": "redis://n", "kafka_bootstrap": "n:1"}
    with pytest.raises(ValidationError, match=problem) as caught:
        OrderSettings.model_validate({**facts, "order_payment_providers": text})
    assert SECRETS["psp"] not in str(caught.value)
