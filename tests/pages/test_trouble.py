"""What may go wrong between a press and its answer, and how the page goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from playwright.async_api import Page, Route, expect

from seckill.v1 import gate_pb2
from tests.kits.actions import open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.gate_policy import set_policy
from tests.kits.http import Answer
from tests.kits.pages import (
    Shop,
    calls,
    check_accessible,
    named,
    order_no,
    press,
    request_ids,
    sale_path,
)
from tests.kits.waiting import eventually


async def lose_answers(page: Page) -> asyncio.Event:
    """Let the page's purchases arrive and lose the answers, until the event is set."""
    over = asyncio.Event()

    async def lose(route: Route) -> None:
        if over.is_set():
            await route.continue_()
            return
        await route.fetch()
        await route.abort("connectionreset")

    await page.route("**:purchase", lose)
    return over


async def test_a_press_without_a_connection_is_sent_once_there_is_one(shop: Shop) -> None:
    """The buyer is told that it is kept, and need not press again."""
    sku = await open_sale(shop.mesh, sale_terms())
    device = await shop.device(new_id("buyer"))
    page = await shop.open(device, sale_path(sku))
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    await device.set_offline(True)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("No connection")
    await check_accessible(page)
    await device.set_offline(False)
    await order_no(page)
    await expect(page.locator("#result")).to_be_hidden()


async def test_a_lost_answer_and_a_reload_find_the_same_order(shop: Shop) -> None:
    """The purchase arrived; the page asks again under the same request id, also after a reload."""
    sku = await open_sale(shop.mesh, sale_terms())
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    made = calls(page)
    over = await lose_answers(page)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("No connection")
    await page.reload()
    await expect(page.locator("#result")).to_contain_text("You are in line")
    await expect(page.locator("#buy")).to_have_attribute("aria-disabled", "true")
    over.set()
    number = await order_no(page)
    purchases = named(made, ":purchase")
    # The press and the page that came back at least; in between it may have asked again by itself.
    assert len(purchases) >= 2
    assert len(request_ids(purchases)) == 1
    await page.reload()
    assert await order_no(page) == number
    assert named(made, ":purchase") == purchases


async def lost(route: Route) -> None:
    """Do not let a watch through."""
    await route.abort()


async def silent(_: Route) -> None:
    """Let a watch hang, as a proxy does that holds back what it passes on."""


@pytest.mark.parametrize("watch", [lost, pytest.param(silent, marks=pytest.mark.slow)])
async def test_an_order_that_cannot_be_watched_is_polled(
    shop: Shop, watch: Callable[[Route], Awaitable[None]]
) -> None:
    """A payment that is made on another device is seen all the same."""
    sku, user = await open_sale(shop.mesh, sale_terms()), new_id("buyer")
    page = await shop.visit(user, sale_path(sku))
    await page.route("**:watch", watch)
    await press(page)
    number = await order_no(page)
    await expect(page.locator("#order")).to_contain_text("It is yours")
    other = await shop.visit(user, f"/dev/pay/?no={number}")
    await other.locator("#pay").click()
    await expect(page.locator("#order")).to_contain_text("Paid")


async def test_a_challenge_is_solved_with_a_word_about_why(shop: Shop) -> None:
    """In a worker; the page shows why it takes a moment, and the buyer does nothing."""
    sku = await open_sale(shop.mesh, sale_terms())
    await set_policy(shop.mesh, gate_pb2.SalePolicy(sku=sku, challenge_at=10))
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    made = calls(page)
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        await route.continue_()

    # The worker's script is slow to come, so that the word can be read.
    await page.route("**/assets/solver.*.js", hold)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("a small puzzle")
    await check_accessible(page)
    held.set()
    await order_no(page)
    first, second = named(made, ":issuePurchaseToken")
    assert first.post_data == "{}"
    assert "challenge_solution" in (second.post_data or "")
    assert len(named(made, ":purchase")) == 1


async def test_a_buyer_whom_the_sale_refuses_is_told_once(shop: Shop) -> None:
    """Trying again changes nothing, so the page does not; a reload does not press either."""
    sku = await open_sale(shop.mesh, sale_terms())
    await set_policy(shop.mesh, gate_pb2.SalePolicy(sku=sku, challenge_at=10, refuse_at=20))
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    made = calls(page)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("does not sell to this account")
    await check_accessible(page)
    await page.reload()
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    assert len(named(made, ":issuePurchaseToken")) == 1
    assert named(made, ":purchase") == []


async def test_a_buyer_who_was_too_fast_is_told_so_and_served(shop: Shop) -> None:
    """Their bucket is empty; the press is sent again once there is something in it."""
    sku, user = await open_sale(shop.mesh, sale_terms()), new_id("buyer")
    page = await shop.visit(user, sale_path(sku))
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    headers = {"authorization": f"Bearer {shop.mesh.issuer.token(user)}"}
    path = f"/v1/sales/{sku}:issuePurchaseToken"

    async def refused() -> bool:
        return (await shop.edge.call("POST", path, {}, headers=headers)).status == 429

    await eventually(refused)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("too fast for the shop")
    await check_accessible(page)
    await order_no(page)
    await expect(page.locator("#result")).to_be_hidden()


async def test_a_page_waits_while_the_mesh_is_overloaded(shop: Shop) -> None:
    """The edge refuses what is too much; the press is sent again by itself, and bought once."""
    sku, busy = await open_sale(shop.mesh, sale_terms()), await open_sale(shop.mesh, sale_terms())
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    made = calls(page)
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    crowd_size = 12
    headers = {"authorization": f"Bearer {shop.mesh.issuer.token(new_id('crowd'))}"}
    answer = await shop.edge.call(
        "POST", f"/v1/sales/{busy}:issuePurchaseToken", {}, headers=headers
    )
    shop.mesh.freeze("inventory")
    try:
        body = {"purchase_token": answer.json["purchaseToken"], "quantity": 1}
        crowd = [
            asyncio.create_task(
                shop.edge.call(
                    "POST",
                    f"/v1/sales/{busy}:purchase",
                    {**body, "request_id": f"r-{number}"},
                    headers=headers,
                )
            )
            for number in range(crowd_size)
        ]
        # So many are refused, and all others wait.
        await eventually(lambda: _done(crowd), lambda done: done >= crowd_size - 8)
        await press(page)
        await expect(page.locator("#result")).to_contain_text("Very many people are buying")
        await check_accessible(page)
    finally:
        shop.mesh.thaw("inventory")
    await order_no(page)
    assert len(request_ids(named(made, ":purchase"))) == 1
    await asyncio.gather(*crowd)


async def _done(tasks: Sequence[asyncio.Task[Answer]]) -> int:
    return sum(task.done() for task in tasks)
