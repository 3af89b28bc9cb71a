"""A buyer at the storefront: from the list to a paid order, and what else may come of a press."""

import asyncio
import re

from playwright.async_api import Route, expect

from tests.kits.actions import open_sale
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import new_id, sale_terms
from tests.kits.pages import (
    DESK,
    Shop,
    calls,
    check_accessible,
    named,
    order_no,
    press,
    request_ids,
    sale_path,
    start_soon,
)


async def test_a_buyer_finds_a_sale_signs_in_buys_and_pays(shop: Shop) -> None:
    """With nothing but what the pages offer; each state is accessible."""
    sku = await open_sale(shop.mesh, sale_terms(units=3, limit=2))
    page = await shop.visit("", "/")
    card = page.locator(f"a[href='{sale_path(sku)}']")
    await expect(card).to_be_visible()
    await check_accessible(page)
    await card.click()
    await expect(page.locator("#price")).to_have_text("CN¥9.90")
    await expect(page.locator("#stock-text")).to_have_text("3 of 3 left")
    await check_accessible(page)
    await page.locator("#sign-in").click()
    await page.locator("#user").fill(new_id("buyer"))
    await check_accessible(page)
    await page.keyboard.press("Enter")
    await expect(page.locator("#buy")).to_have_text("Buy for CN¥9.90")
    await page.locator("#quantity").fill("2")
    await check_accessible(page)
    await press(page)
    await expect(page.locator("#order")).to_contain_text("It is yours")
    await expect(page.locator("#order .left")).to_have_text(re.compile(r"0?9:\d\d|10:00"))
    await check_accessible(page)
    await page.get_by_role("link", name="Pay CN¥19.80").click()
    await expect(page.locator("#amount")).to_have_text("CN¥19.80")
    await check_accessible(page)
    await page.locator("#pay").click()
    await page.wait_for_url("**/order/**")
    await expect(page.locator("#order")).to_contain_text("Paid")
    await check_accessible(page)


async def test_a_buyer_who_comes_too_late_is_told_so(shop: Shop) -> None:
    """The page still shows a unit when the button is pressed."""
    sku = await open_sale(shop.mesh, sale_terms(units=1))
    page = await shop.visit(new_id("buyer"), sale_path(sku), viewport=DESK)
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    pressed = asyncio.Event()

    async def hold(route: Route) -> None:
        await pressed.wait()
        await route.continue_()

    # The page does not see before the press what happens now.
    await page.route(f"**/v1/sales/{sku}", hold)
    assert (await json_buyer(shop.edge, shop.mesh).buy(sku)).order_no
    await press(page)
    pressed.set()
    await expect(page.locator("#result")).to_contain_text("Sold out")
    await expect(page.locator("#returning")).to_contain_text("1 unit is reserved")
    await expect(page.locator("#buy")).to_have_attribute("aria-disabled", "true")
    await check_accessible(page)


async def test_a_second_press_on_another_device_shows_the_order(shop: Shop) -> None:
    """One device knows nothing of the other: the mesh says that the buyer has an order."""
    sku, user = await open_sale(shop.mesh, sale_terms()), new_id("buyer")
    first = await shop.visit(user, sale_path(sku))
    await press(first)
    number = await order_no(first)
    # The first device offers no second press.
    await expect(first.locator("#buy")).to_be_hidden()
    second = await shop.visit(user, sale_path(sku))
    await press(second)
    await expect(second.locator("#result")).to_contain_text("Already yours")
    assert await order_no(second) == number
    await check_accessible(second)


async def test_two_tabs_of_one_buyer_make_one_attempt(shop: Shop) -> None:
    """A press in one of them is the other's too; both show the one order and its end."""
    sku, user = await open_sale(shop.mesh, sale_terms()), new_id("buyer")
    device = await shop.device(user)
    tabs = [await shop.open(device, sale_path(sku)) for _ in range(2)]
    made = [calls(tab) for tab in tabs]
    for tab in tabs:
        await expect(tab.locator("#buy[aria-disabled=false]")).to_be_visible()
    await press(tabs[0])
    numbers = [await order_no(tab) for tab in tabs]
    assert numbers[0] == numbers[1]
    attempts = [call for of_tab in made for call in named(of_tab, ":purchase")]
    assert len(request_ids(attempts)) == 1
    await tabs[1].get_by_role("button", name="Give it back").click()
    await check_accessible(tabs[1])
    await tabs[1].locator("dialog").get_by_role("button", name="Give it back").click()
    await expect(tabs[1].locator("#order")).to_contain_text("You gave it back")
    await expect(tabs[0].locator("#order")).to_contain_text("cancelled")


async def test_a_purchase_by_keyboard_alone_with_the_token_from_before_the_start(
    shop: Shop,
) -> None:
    """The button can be waited on, and pressed within the ten seconds of the token."""
    sku = await open_sale(shop.mesh, sale_terms(starts_in_s=600.0))
    device = await shop.device(new_id("buyer"))
    page = await device.new_page()
    made = calls(page)
    await page.goto(shop.origin + sale_path(sku))
    await expect(page.locator("#countdown")).to_be_visible()
    for _ in range(8):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "buy":
            break
    # Dead before the start, whatever is pressed.
    await page.keyboard.press("Enter")
    assert named(made, ":purchase") == []
    await check_accessible(page)
    await start_soon(page, shop.mesh, sku)
    await expect(page.locator("#buy")).to_have_attribute("aria-disabled", "false")
    (token,) = named(made, ":issuePurchaseToken")
    await page.keyboard.press("Enter")
    number = await order_no(page)
    assert named(made, ":issuePurchaseToken") == [token]
    # The panel has the focus: the keys go on to the payment.
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/dev/pay/?no={number}")
    await expect(page.locator("#pay")).to_be_visible()
    await page.locator("#pay").press("Enter")
    await page.wait_for_url("**/order/**")
    await expect(page.locator("#order")).to_contain_text("Paid")
