"""Webhooks: which events are sent, to whom, and what is in them."""

import json
from collections.abc import AsyncIterator

import pytest
from google.protobuf.json_format import ParseDict
from standardwebhooks import WebhookVerificationError
from structlog.testing import capture_logs

from seckill.errors import PaymentTooLate
from seckill.v1 import events_pb2, order_pb2
from tests.factories import new_id
from tests.webhook_kit import (
    Books,
    Received,
    Receiver,
    endpoint_of,
    new_secret,
    open_books,
    receiving,
)


@pytest.fixture
async def books(database_dsn: str) -> AsyncIterator[Books]:
    """Books of the test's own."""
    async with open_books(database_dsn) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of the test's own."""
    async with receiving() as running:
        yield running


async def test_event_arrives_signed_as_a_cloud_event(books: Books, receiver: Receiver) -> None:
    """The reference library verifies it; its data reads back as the OrderEvent."""
    endpoint = endpoint_of(receiver.url)
    await books.name(endpoint)
    (number,) = await books.reserve()
    async with books.delivering(endpoint):
        (received,) = await receiver.got(1)
        await books.settled()
    event = received.verified_by(endpoint.secret.get_secret_value())
    assert received.id == event["id"] == f"{number}/created"
    assert received.headers["content-type"].startswith("application/cloudevents+json")
    assert event["specversion"] == "1.0"
    assert event["source"] == "/seckill/order_svc"
    assert event["type"] == "seckill.order.created.v1"
    data = ParseDict(event["data"], events_pb2.OrderEvent())
    assert data.type == events_pb2.ORDER_EVENT_TYPE_CREATED
    assert data.order.order_no == number
    assert data.order.state == order_pb2.ORDER_STATE_PENDING
    with pytest.raises(WebhookVerificationError):
        received.verified_by(new_secret())


async def test_secret_is_changed_without_a_gap(books: Books, receiver: Receiver) -> None:
    """While both sign, receivers may know either; afterwards the old one verifies nothing."""
    old, new = new_secret(), new_secret()
    both = endpoint_of(receiver.url, secret=f"{new} {old}")
    await books.name(both)
    await books.reserve()
    async with books.delivering(both):
        (received,) = await receiver.got(1)
        await books.settled()
    assert received.verified_by(old) == received.verified_by(new)
    await books.reserve()
    async with books.delivering(endpoint_of(receiver.url, secret=new)):
        received = (await receiver.got(2))[1]
    assert received.verified_by(new)
    with pytest.raises(WebhookVerificationError):
        received.verified_by(old)


async def test_each_transition_is_told_to_those_who_want_it(
    books: Books, receiver: Receiver
) -> None:
    """An endpoint may name events; without a list it has all."""
    async with receiving() as picky:
        every = endpoint_of(receiver.url, name="every")
        refunds = endpoint_of(picky.url, name="refunds", events=["payment_too_late", "refunded"])
        await books.name(every, refunds)
        paid, cancelled, rejected = await books.reserve(3, units=2)
        await books.pay(paid)
        await books.orders.refund(paid, refund_id=new_id("refund"), restock=True)
        await books.orders.cancel(cancelled, user_id="")
        late = books.payment(cancelled)
        with pytest.raises(PaymentTooLate):
            await books.orders.pay(late)
        async with books.delivering(every, refunds):
            await books.settled()
    wanted = {f"{paid}/refunded", f"{cancelled}/payment_too_late/{late.payment_id}"}
    others = {f"{paid}/created", f"{paid}/paid", f"{cancelled}/created", f"{cancelled}/cancelled"}
    assert set(picky.ids()) == wanted
    assert set(receiver.ids()) == wanted | others | {f"{rejected}/rejected"}


async def test_nothing_is_written_where_nobody_is_to_be_told(books: Books) -> None:
    """No row costs anybody anything before an endpoint is named."""
    await books.reserve(3)
    assert await books.rows() == []


async def test_late_payment_says_the_same_when_it_is_told_late(
    books: Books, receiver: Receiver
) -> None:
    """The order is shown as the payment found it, though it was cancelled since."""
    endpoint = endpoint_of(receiver.url, events=["payment_too_late"])
    await books.name(endpoint)
    (number,) = await books.reserve()
    await books.sql.execute(
        "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
        " - interval '1 h' WHERE order_no = $1",
        number,
    )
    with pytest.raises(PaymentTooLate):
        await books.orders.pay(books.payment(number))

    async def cancel_meanwhile(_: Received) -> int:
        if len(receiver.requests) > 1:
            return 204
        await books.orders.cancel(number, user_id="")
        return 500

    receiver.answer = cancel_meanwhile
    async with books.delivering(endpoint):
        await books.settled()
    first, second = receiver.requests
    assert first.body == second.body
    assert first.event["data"]["order"]["state"] == "ORDER_STATE_PENDING"


async def test_body_has_these_fields_and_logs_have_none_of_it(
    books: Books, receiver: Receiver
) -> None:
    """A field added to the contract does not reach receivers unseen; secrets reach nobody."""

    async def refuse(_: Received) -> int:
        return 500

    receiver.answer = refuse
    token = new_id("token")
    endpoint = endpoint_of(f"{receiver.url}?token={token}")
    nowhere = endpoint_of(f"http://127.0.0.1:1/?token={token}", name="nowhere")
    await books.name(endpoint, nowhere)
    (number,) = await books.reserve()
    with capture_logs() as logs:
        async with books.delivering(endpoint, nowhere, order_webhook_attempts_max=2):
            rows = await books.dead(2)
    event = receiver.requests[0].event
    assert set(event) == {
        "specversion", "id", "source", "type", "time", "datacontenttype", "data",
    }  # fmt: skip
    assert set(event["data"]) == {"sequence", "type", "eventTime", "order"}
    assert set(event["data"]["order"]) == {
        "orderNo", "sku", "userId", "requestId", "quantity", "amount", "state",
        "createTime", "expireTime",
    }  # fmt: skip
    written = json.dumps(logs) + "".join(row["error"] for row in rows)
    private = [token, event["data"]["order"]["userId"], number, "whsec"]
    private += [one.secret.get_secret_value() for one in (endpoint, nowhere)]
    assert [text for text in private if text in written] == []
    assert {row["error"] for row in rows} == {"answered 500", "unreachable: Connection refused"}
