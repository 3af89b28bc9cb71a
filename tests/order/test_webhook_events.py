"""Webhooks: which events are sent, to whom, and what is in them."""

import json
from collections.abc import AsyncIterator

import pytest
from google.protobuf.json_format import ParseDict
from standardwebhooks import WebhookVerificationError
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from order_svc.sales.changes import SaleChanges
from order_svc.sales.repository import SaleRepository
from seckill.errors import PaymentTooLate
from seckill.v1 import events_pb2, order_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.webhooks import (
    Received,
    Receiver,
    WebhookBench,
    endpoint_of,
    new_secret,
    open_webhook_bench,
    receiving,
)


@pytest.fixture
async def bench(database_dsn: str) -> AsyncIterator[WebhookBench]:
    """WebhookBench of the test's own."""
    async with open_webhook_bench(database_dsn) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of the test's own."""
    async with receiving() as running:
        yield running


async def test_event_arrives_signed_as_a_cloud_event(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """The reference library verifies it; its data reads back as the OrderEvent."""
    endpoint = endpoint_of(receiver.url)
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    async with bench.delivering(endpoint):
        (received,) = await receiver.got(1)
        await bench.settled()
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


async def test_change_of_a_sale_and_its_call_reach_a_receiver(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """The change reads back as the OrderEvent; the call's id is an attribute, and on the log."""
    endpoint = endpoint_of(receiver.url, events=["sale_changed"])
    await bench.register(endpoint)
    terms = sale_terms(units=3)
    await SaleRepository(bench.database).register(terms)
    statuses = iter([500, 204])

    async def refuse_once(_: Received) -> int:
        return next(statuses)

    receiver.answer = refuse_once
    addition = order_pb2.AddUnitsRequest(sku=terms.sku, addition_id="more", units=2)
    with bound_contextvars(request_id="call-0001"):
        await SaleChanges(bench.database).add_units(addition, operator="olga")
    with capture_logs([merge_contextvars]) as logs:
        async with bench.delivering(endpoint):
            await bench.settled()
    event = receiver.accepted[0].verified_by(endpoint.secret.get_secret_value())
    assert (event["type"], event["callid"]) == ("seckill.order.sale_changed.v1", "call-0001")
    change = ParseDict(event["data"], events_pb2.OrderEvent()).sale_change
    assert (change.sku, change.operator, change.addition_id) == (terms.sku, "olga", "more")
    assert (change.before.total_units, change.after.total_units) == (3, 5)
    (line,) = [line for line in logs if line["event"] == "webhook not delivered"]
    assert line["request_id"] == "call-0001"


async def test_secret_is_changed_without_a_gap(bench: WebhookBench, receiver: Receiver) -> None:
    """While both sign, receivers may know either; afterwards the old one verifies nothing."""
    old, new = new_secret(), new_secret()
    both = endpoint_of(receiver.url, secret=f"{new} {old}")
    await bench.register(both)
    await bench.reserve()
    async with bench.delivering(both):
        (received,) = await receiver.got(1)
        await bench.settled()
    assert received.verified_by(old) == received.verified_by(new)
    await bench.reserve()
    async with bench.delivering(endpoint_of(receiver.url, secret=new)):
        received = (await receiver.got(2))[1]
    assert received.verified_by(new)
    with pytest.raises(WebhookVerificationError):
        received.verified_by(old)


async def test_each_transition_is_told_to_those_who_want_it(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """An endpoint may name events; without a list it has all."""
    async with receiving() as picky:
        every = endpoint_of(receiver.url, name="every")
        refunds = endpoint_of(picky.url, name="refunds", events=["payment_too_late", "refunded"])
        await bench.register(every, refunds)
        paid, cancelled, rejected = await bench.reserve(3, units=2)
        await bench.pay(paid)
        await bench.orders.refund(paid, refund_id=new_id("refund"), restock=True)
        await bench.orders.cancel(cancelled, user_id="")
        late = bench.payment(cancelled)
        with pytest.raises(PaymentTooLate):
            await bench.payments.pay(late)
        async with bench.delivering(every, refunds):
            await bench.settled()
    wanted = {f"{paid}/refunded", f"{cancelled}/payment_too_late/{late.payment_id}"}
    others = {f"{paid}/created", f"{paid}/paid", f"{cancelled}/created", f"{cancelled}/cancelled"}
    assert set(picky.ids()) == wanted
    assert set(receiver.ids()) == wanted | others | {f"{rejected}/rejected"}


async def test_nothing_is_written_without_endpoints(bench: WebhookBench) -> None:
    """No row is written before an endpoint is registered."""
    await bench.reserve(3)
    assert await bench.rows() == []


async def test_late_payment_says_the_same_when_it_is_told_late(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """The order is shown as the payment found it, though it was cancelled since."""
    endpoint = endpoint_of(receiver.url, events=["payment_too_late"])
    await bench.register(endpoint)
    (number,) = await bench.reserve()
    await bench.sql.execute(
        "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
        " - interval '1 h' WHERE order_no = $1",
        number,
    )
    with pytest.raises(PaymentTooLate):
        await bench.payments.pay(bench.payment(number))

    async def cancel_meanwhile(_: Received) -> int:
        if len(receiver.requests) > 1:
            return 204
        await bench.orders.cancel(number, user_id="")
        return 500

    receiver.answer = cancel_meanwhile
    async with bench.delivering(endpoint):
        await bench.settled()
    first, second = receiver.requests
    assert first.body == second.body
    assert first.event["data"]["order"]["state"] == "ORDER_STATE_PENDING"


async def test_body_has_these_fields_and_logs_have_none_of_it(
    bench: WebhookBench, receiver: Receiver
) -> None:
    """A field added to the contract does not reach receivers unseen; secrets reach no one."""

    async def refuse(_: Received) -> int:
        return 500

    receiver.answer = refuse
    token = new_id("token")
    endpoint = endpoint_of(f"{receiver.url}?token={token}")
    nowhere = endpoint_of(f"http://127.0.0.1:1/?token={token}", name="nowhere")
    await bench.register(endpoint, nowhere)
    (number,) = await bench.reserve()
    with capture_logs() as logs:
        async with bench.delivering(endpoint, nowhere, order_webhook_attempts_max=2):
            rows = await bench.dead(2)
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
