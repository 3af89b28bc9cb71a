"""`seckill webhook`: dead deliveries are listed, shown, redriven and dropped from outside."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from seckill.status import reason_of
from seckill.v1 import order_admin_pb2 as pb
from tests.kits.operator import Desk, open_desk
from tests.kits.stores import Topics
from tests.kits.webhooks import (
    Received,
    Receiver,
    WebhookBench,
    accept,
    endpoint_of,
    open_webhook_bench,
    receiving,
)


class Shop:
    """An order database, a receiver that refuses everything, and an operator before them."""

    def __init__(self, bench: WebhookBench, receiver: Receiver, desk: Desk) -> None:
        self.bench = bench
        self.receiver = receiver
        self.endpoint = endpoint_of(receiver.url)
        self.desk = desk

    async def command(self, *arguments: str, fails: bool = False) -> str:
        """Run `seckill webhook`; return what it printed."""
        return await self.desk.command("webhook", *arguments, fails=fails)

    async def kill(self, count: int) -> list[int]:
        """So many dead letters; their ids."""
        await self.bench.register(self.endpoint)
        await self.bench.reserve(count)

        async def refuse(_: Received) -> int:
            return 500

        self.receiver.answer = refuse
        async with self.bench.delivering(self.endpoint, order_webhook_attempts_max=1):
            rows = await self.bench.dead(count)
        return [row["id"] for row in rows]


@pytest.fixture
async def shop(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Shop]:
    """A shop of the test's own; the service delivers nothing by itself."""
    async with (
        open_webhook_bench(database_dsn) as bench,
        receiving() as receiver,
        open_desk(
            stores,
            database_dsn=database_dsn,
            redis_url=redis_url,
            topics=topics,
            secrets=tmp_path,
        ) as desk,
    ):
        yield Shop(bench, receiver, desk)


async def test_dead_letters_are_listed_shown_redriven_and_dropped(shop: Shop) -> None:
    """A redriven one is delivered under the same id; a dropped one stays on record a while."""
    redriven, dropped, left = await shop.kill(3)
    listed = await shop.command("list")
    assert "3 deliveries" in listed
    assert "answered 500" in listed
    first = shop.receiver.requests[0].event
    shown = await shop.command("show", str(redriven))
    assert "answered 500" in shown
    assert '"specversion": "1.0"' in shown
    assert shop.endpoint.secret.get_secret_value() not in shown
    assert "1 dead letters settled" in await shop.command("redrive", str(redriven))
    await shop.command("drop", str(dropped), "--note", "told by hand")
    assert "1 deliveries" in await shop.command("list")
    assert "told by hand" in await shop.command("show", str(dropped))
    assert "dropped" in await shop.command("list", "--all", "--endpoint", "shop")
    told = len(shop.receiver.requests)
    shop.receiver.answer = accept
    async with shop.bench.delivering(shop.endpoint):
        (again,) = (await shop.receiver.got(told + 1))[told:]
        await shop.command("redrive", "--endpoint", "shop")
        await shop.receiver.got(told + 2)
    assert again.id in {received.id for received in shop.receiver.requests[:told]}
    assert set(again.event) == set(first)
    assert left not in [row["id"] for row in await shop.bench.rows()]


async def test_what_cannot_be_settled_is_refused(shop: Shop) -> None:
    """Dropped before, waiting, never there, or to an endpoint that is not configured."""
    dead, dropped = await shop.kill(2)
    await shop.command("drop", str(dropped), "--note", "x")
    await shop.bench.reserve()
    waiting = (await shop.bench.rows())[-1]["id"]
    refused = await shop.command("redrive", str(dropped), str(waiting), fails=True)
    assert f"delivery {dropped} is dropped" in refused
    assert f"delivery {waiting} is waiting" in refused
    assert "there is no delivery 999" in await shop.command("show", "999", fails=True)
    assert "name dead letters" in await shop.command("redrive", fails=True)
    await shop.bench.sql.execute("UPDATE webhook_endpoints SET gone_at = now()")
    assert "resume it first" in await shop.command("redrive", str(dead), fails=True)
    assert "gone since" in await shop.command("endpoints")
    await shop.command("resume", "shop")
    assert "not gone" in await shop.command("resume", "shop", fails=True)
    assert "told" in await shop.command("endpoints")
    await shop.command("redrive", str(dead))
    (row,) = [row for row in await shop.bench.rows() if row["id"] == dead]
    assert (row["dead_at"], row["attempts"]) == (None, 0)
    # Its age counts from now, else it would be given up as too old.
    assert row["queued_at"] > row["at"]
    await shop.bench.sql.execute(
        "UPDATE webhook_deliveries SET dead_at = now() WHERE id = $1", dead
    )
    await shop.bench.sql.execute("DELETE FROM webhook_endpoints")
    assert "not configured" in await shop.command("redrive", str(dead), fails=True)


async def test_pages_hold_each_delivery_once(shop: Shop) -> None:
    """Walking through the pages meets all of an endpoint's deliveries, oldest first."""
    dead = await shop.kill(3)
    request = pb.ListWebhookDeliveriesRequest(endpoint="shop", only_dead=True, page_size=2)
    seen = []
    while True:
        page = await shop.desk.stub.ListWebhookDeliveries(request, metadata=shop.desk.metadata)
        seen += [delivery.id for delivery in page.deliveries]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == sorted(dead)


async def test_error_of_an_endpoint_is_printed_as_text(shop: Shop) -> None:
    """What an endpoint answers is neither markup nor a control sequence."""
    (dead,) = await shop.kill(1)
    await shop.bench.sql.execute("UPDATE webhook_deliveries SET error = E'[/x] \\x1b[31mred'")
    for arguments in (("list",), ("show", str(dead))):
        shown = await shop.command(*arguments)
        assert "[/x] \\x1b[31mred" in shown
        assert "\x1b" not in shown


async def test_bad_requests_are_refused_by_field(shop: Shop) -> None:
    """Each is INVALID_ARGUMENT; an id that does not exist is NOT_FOUND."""
    stub, metadata = shop.desk.stub, shop.desk.metadata
    for call, reason in (
        (
            stub.DropWebhookDeliveries(pb.DropWebhookDeliveriesRequest(ids=[1]), metadata=metadata),
            "INVALID_FIELD",
        ),
        (
            stub.RedriveWebhookDeliveries(pb.RedriveWebhookDeliveriesRequest(), metadata=metadata),
            "INVALID_FIELD",
        ),
        (
            stub.ListWebhookDeliveries(
                pb.ListWebhookDeliveriesRequest(endpoint="No such"), metadata=metadata
            ),
            "INVALID_FIELD",
        ),
        (
            stub.ListWebhookDeliveries(
                pb.ListWebhookDeliveriesRequest(page_token="forged"), metadata=metadata
            ),
            "INVALID_FIELD",
        ),
        (
            stub.GetWebhookDelivery(pb.GetWebhookDeliveryRequest(id=-1), metadata=metadata),
            "WEBHOOK_DELIVERY_NOT_FOUND",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason_of(caught.value) == reason
