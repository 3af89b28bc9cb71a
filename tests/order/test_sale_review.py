"""Operators review a sale and void orders, over gRPC and from the command line."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack import Stores
from order_svc.audit.audit import SaleAuditor
from order_svc.hoarding.buyers import BuyerHistories, Sighting
from seckill.status import reason_of
from seckill.v1 import hoarding_pb2 as pb
from seckill.v1 import hoarding_pb2_grpc, order_pb2, order_pb2_grpc
from tests.kits.operator import Desk, authorization, open_desk
from tests.kits.order_store import Store, payment, reservations
from tests.kits.stores import Topics

CARD, HOME = b"c" * 16, b"h" * 16
CARD_CLUSTER = f"fingerprint:{CARD.hex()}"


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk before a service that knows the issuer of operators."""
    async with open_desk(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics, secrets=tmp_path
    ) as opened:
        yield opened


@pytest.fixture
async def reviews(desk: Desk) -> AsyncIterator["hoarding_pb2_grpc.SaleReviewServiceAsyncStub"]:
    """The service that operators call."""
    async with grpc.aio.insecure_channel(desk.address) as channel:
        yield hoarding_pb2_grpc.SaleReviewServiceStub(channel)


async def sale_of(store: Store, *, hoarded: int, others: int = 2) -> tuple[str, list[str]]:
    """A sale with orders of one card, and of other buyers; returns its sku and all numbers."""
    sku = await store.sale()
    events = reservations(sku, hoarded + others)
    await store.writer.write(events)
    numbers = [event.order_no for event in events]
    sightings = [Sighting(number, b"", CARD) for number in numbers[:hoarded]]
    await BuyerHistories(store.database).record(sightings)
    return sku, numbers


def effects(answer: pb.VoidOrdersResponse) -> dict[str, Any]:
    """What becomes of each order."""
    return {one.order_no: one.effect for one in answer.orders}


async def test_clusters_are_listed_in_pages(desk: Desk, reviews: Any, store: Store) -> None:
    """Largest first, each once, with what awaits payment and what is paid."""
    sku, numbers = await sale_of(store, hoarded=4, others=5)
    histories = BuyerHistories(store.database)
    await histories.record([Sighting(number, HOME, b"") for number in numbers[4:]])
    await store.payments.record(payment(numbers[0]))
    request = pb.ReviewSaleRequest(sku=sku, page_size=1)
    listed = []
    while True:
        page = await reviews.ReviewSale(request, metadata=desk.metadata)
        assert (page.order_count, page.sighted_count) == (9, 9)
        listed += page.clusters
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [(one.kind, one.order_count) for one in listed] == [
        (pb.CLUSTER_KIND_ADDRESS, 5),
        (pb.CLUSTER_KIND_FINGERPRINT, 4),
    ]
    card = listed[1]
    assert (card.id, card.user_count) == (CARD_CLUSTER, 4)
    assert (card.pending_units, card.paid_units) == (3, 1)
    assert sorted(card.order_nos) == sorted(numbers[:4])


async def test_voided_orders_are_cancelled_once_and_their_units_return(
    desk: Desk, reviews: Any, store: Store
) -> None:
    """A cluster's pending orders, and none of the others; who did it and why is in the audit."""
    sku, numbers = await sale_of(store, hoarded=4)
    await store.payments.record(payment(numbers[0]))
    await store.orders.cancel(numbers[1], user_id="")
    request = pb.VoidOrdersRequest(
        sku=sku,
        cluster_ids=[CARD_CLUSTER],
        order_nos=[numbers[4], "0" * 26],
        reason="one card",
        dry_run=True,
    )
    expected = {
        numbers[0]: pb.VOID_EFFECT_NEEDS_REFUND,
        numbers[1]: pb.VOID_EFFECT_ENDED,
        numbers[2]: pb.VOID_EFFECT_VOIDED,
        numbers[3]: pb.VOID_EFFECT_VOIDED,
        numbers[4]: pb.VOID_EFFECT_VOIDED,
        "0" * 26: pb.VOID_EFFECT_NOT_FOUND,
    }
    foreseen = await reviews.VoidOrders(request, metadata=desk.metadata)
    assert effects(foreseen) == expected
    assert (await store.facts(sku))["live"] == 5
    request.dry_run = False
    done = await reviews.VoidOrders(request, metadata=desk.metadata)
    assert effects(done) == expected
    facts = await store.facts(sku)
    assert (facts["live"], facts["sold"], facts["outbox"]) == (2, 2, 4)
    rows = await store.orders.find(numbers)
    statuses = {row["order_no"]: (row["status"], row["cancel_reason"]) for row in rows}
    assert statuses[numbers[2]] == ("cancelled", "voided")
    assert statuses[numbers[5]] == ("pending", None)
    unrestored = {row["order_no"] for row in await store.orders.unrestored(10)}
    assert unrestored == set(numbers[1:5])

    again = await reviews.VoidOrders(request, metadata=desk.metadata)
    ended = dict.fromkeys(numbers[2:5], pb.VOID_EFFECT_ENDED)
    assert effects(again) == expected | ended
    assert await store.facts(sku) == facts
    audit = await SaleAuditor(store.database, orders_max=100).audit(sku)
    assert audit.wrong is None
    assert [(void["order_no"], void["operator"], void["reason"]) for void in audit.voids] == [
        (number, "olga", "one card") for number in sorted(numbers[2:5])
    ]
    histories = await BuyerHistories(store.database).count(
        [(row["user_id"], b"") for row in rows if row["order_no"] == numbers[2]],
        window=timedelta(days=1),
    )
    assert histories[0]["unpaid"] == 1


async def test_buyers_see_at_once_that_their_order_was_voided(
    desk: Desk, reviews: Any, store: Store
) -> None:
    """The projection that polling reads is brought up to date."""
    sku, numbers = await sale_of(store, hoarded=1, others=0)
    (row,) = await store.orders.find(numbers)
    async with grpc.aio.insecure_channel(desk.address) as channel:
        orders = order_pb2_grpc.OrderServiceStub(channel)
        poll = order_pb2.BatchGetOrdersRequest(order_nos=numbers)
        await orders.BatchGetOrders(poll)
        request = pb.VoidOrdersRequest(sku=sku, user_ids=[row["user_id"]], reason="many accounts")
        await reviews.VoidOrders(request, metadata=desk.metadata)
        (encoded,) = (await orders.BatchGetOrders(poll)).orders
    assert order_pb2.Order.FromString(encoded).state == order_pb2.ORDER_STATE_CANCELLED


async def test_more_orders_than_one_call_takes_are_voided_by_repeating_it(
    desk: Desk, reviews: Any, store: Store
) -> None:
    """1,000 at a time; the answer says how many are left."""
    sku, _ = await sale_of(store, hoarded=1_000, others=0)
    events = reservations(sku, 3)
    await store.sql.execute("UPDATE sales SET total = 2000 WHERE sku = $1", sku)
    await store.writer.write(events)
    await BuyerHistories(store.database).record(
        [Sighting(event.order_no, b"", CARD) for event in events]
    )
    request = pb.VoidOrdersRequest(sku=sku, cluster_ids=[CARD_CLUSTER], reason="one card")
    first = await reviews.VoidOrders(request, metadata=desk.metadata)
    assert (len(first.orders), first.remaining_count) == (1_000, 3)
    second = await reviews.VoidOrders(request, metadata=desk.metadata)
    assert second.remaining_count == 0
    assert (await store.facts(sku))["live"] == 0


async def test_only_operators_review_and_void_and_bad_input_is_named(
    desk: Desk, reviews: Any
) -> None:
    """No token, a buyer's token, an unknown sale, and each wrong field."""

    async def failure(call: Any) -> tuple[grpc.StatusCode, str | None, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = caught.value
        return error.code(), reason_of(error), error.details() or ""

    look = pb.ReviewSaleRequest(sku="none")
    void = pb.VoidOrdersRequest(sku="none", user_ids=["u"], reason="r")
    buyer = authorization(desk.issuer.token("buyer-1"))
    for call, request in ((reviews.ReviewSale, look), (reviews.VoidOrders, void)):
        assert (await failure(call(request)))[1] == "IDENTITY_MISSING"
        assert (await failure(call(request, metadata=buyer)))[1] == "NOT_ALLOWED"
        unknown = await failure(call(request, metadata=desk.metadata))
        assert unknown[:2] == (grpc.StatusCode.NOT_FOUND, "SALE_NOT_FOUND")
    wrong = pb.VoidOrdersRequest(
        sku="none", order_nos=["x"], user_ids=[""], cluster_ids=["?"], reason=" "
    )
    named = (await failure(reviews.VoidOrders(wrong, metadata=desk.metadata)))[2]
    for field in ("order_nos[0]", "user_ids[0]", "cluster_ids[0]", "reason"):
        assert field in named
    nothing = pb.VoidOrdersRequest(sku="none", reason="r")
    assert "order_nos" in (await failure(reviews.VoidOrders(nothing, metadata=desk.metadata)))[2]
    early = pb.ReviewSaleRequest(sku="none", orders_min=1)
    early.early.FromSeconds(61)
    named = (await failure(reviews.ReviewSale(early, metadata=desk.metadata)))[2]
    assert "orders_min" in named


async def test_the_command_shows_clusters_asks_and_voids(desk: Desk, store: Store) -> None:
    """Without a yes nothing is done; the audit names the operator."""
    sku, numbers = await sale_of(store, hoarded=3)
    (line,) = (await desk.command("sale", "review", sku, "--json")).splitlines()
    cluster = json.loads(line)
    assert (cluster["id"], cluster["pending_units"]) == (CARD_CLUSTER, 3)

    arguments = ("sale", "void", sku, "--cluster", CARD_CLUSTER, "--reason", "one card")
    refused = await desk.command(*arguments, fails=True)
    assert "3 orders" in refused
    assert (await store.facts(sku))["live"] == 5
    assert "3 orders voided" in await desk.command(*arguments, "--yes")
    assert (await store.facts(sku))["live"] == 2
    audit = await desk.command("audit", "--sku", sku)
    assert all(number in audit for number in numbers[:3])
    assert "olga" in audit
    assert "one card" in audit
