"""An operator's day at the console: from the sale's creation to its audit, by the page alone."""

import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.kits.actions import open_sale
from tests.kits.console import VIEWS, Console, agree, changes, dialog, leave, press
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import new_id, sale_terms
from tests.kits.pages import DESK, PHONE, check_accessible

LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": DESK},
    "phone": {"viewport": PHONE, "locale": "zh-CN"},
}


async def test_an_operator_runs_a_sale_from_creation_to_audit(console: Console) -> None:
    """Signs in, creates, changes, adds, pauses, reopens, sees it sell, closes, audits."""
    page = await (await console.device(viewport=DESK)).new_page()
    await page.goto(f"{console.origin}/console/")
    await page.get_by_label("Your name in the log").fill("olga")
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_text("Signed in as olga")).to_be_visible()
    sku = new_id("lamp")
    await page.get_by_role("link", name="New sale").click()
    await page.get_by_label("Sku").fill(sku)
    await page.get_by_label("Title").fill("Lamp <b>not bold</b>")
    await page.get_by_label("Units for sale").fill("3")
    await page.get_by_label("Price").fill("9.90")
    await page.get_by_role("button", name="Create the sale").click()
    await expect(page.locator("h1")).to_have_text("Lamp <b>not bold</b> Selling")
    await expect(page.locator("h1 b")).to_have_count(0)

    await press(page, "Add units")
    await dialog(page).get_by_label("Units to add").fill("2")
    await agree(page, "Add units")
    await expect(page.locator(".tile.lead")).to_contain_text("of 5")
    await press(page, "Pause")
    await agree(page, "Pause")
    await expect(page.locator("h1 .chip")).to_have_text("Paused")
    await press(page, "Reopen")
    await agree(page, "Reopen")
    await expect(page.locator("h1 .chip")).to_have_text("Selling")
    await press(page, "Change")
    await dialog(page).get_by_label("End").fill("2099-01-01T00:00:00")
    await agree(page, "Change")
    await expect(page.get_by_role("table", name="What operators changed")).to_contain_text("2099")

    buyer = json_buyer(console.edge, console.mesh)
    order_no = (await buyer.buy(sku)).order_no
    await console.order_is_written(order_no)
    await expect(page.locator(".tile.lead")).to_contain_text("4")
    await expect(page.locator(".tile").filter(has_text="Awaiting payment").first).to_contain_text(
        "1"
    )
    # The mesh at this moment, from the metrics of its processes.
    await expect(page.get_by_role("list", name="Attempts by outcome")).to_contain_text("Reserved")
    for lag in ("Reservations not in Kafka yet", "Wait at the gateway", "Shed at the edge"):
        await expect(page.locator(".tile").filter(has_text=lag)).to_contain_text(re.compile(r"\d"))
    await page.get_by_role("link", name="Orders").last.click()
    await page.get_by_role("link", name=order_no).click()
    await expect(page.get_by_text(f"Order of 1 \u00d7 {sku}, 9.90 CNY")).to_be_visible()

    await page.goto(f"{console.origin}/console/#/sales/{sku}")
    await press(page, "Close")
    await dialog(page).get_by_label(f"Write {sku} to confirm").fill("something else")
    await dialog(page).get_by_role("button", name="Close").click()
    await expect(dialog(page)).to_contain_text(f"That is not {sku}.")
    await dialog(page).get_by_label(f"Write {sku} to confirm").fill(sku)
    await agree(page, "Close")
    await expect(page.locator("h1 .chip")).to_have_text("Closed")
    await page.get_by_role("link", name="Reconcile").last.click()
    await expect(page.get_by_text(f"{sku}: Redis and the database agree.")).to_be_visible()
    await page.goto(f"{console.origin}/console/#/audit?sku={sku}")
    await expect(page.get_by_role("heading", name="Proven")).to_be_visible()
    await expect(page.get_by_text("most were 1 of 5")).to_be_visible()

    await page.goto(f"{console.origin}/console/#/log")
    log = page.get_by_role("table", name="Operators' log")
    await expect(log).to_contain_text("CreateSale")
    await expect(log.get_by_role("row").filter(has_text=sku).first).to_contain_text("olga")


async def test_an_order_is_cancelled_and_a_buyers_story_tells_it(console: Console) -> None:
    """The dialog says whose order it is and what becomes of its units."""
    sku = await open_sale(console.mesh, sale_terms(units=1))
    buyer = json_buyer(console.edge, console.mesh)
    order_no = (await buyer.buy(sku)).order_no
    await console.order_is_written(order_no)
    page = await console.show(await console.seat(), f"orders/{order_no}")
    await press(page, "Cancel the order")
    await expect(dialog(page)).to_contain_text(f"1 unit of {sku} goes back on sale")
    await agree(page, "Cancel the order")
    await expect(page.locator("h1 .chip")).to_have_text("Cancelled")
    await page.locator("main").get_by_role("link", name=buyer.user_id).click()
    await expect(page.locator(".timeline")).to_contain_text("Cancelled, or not paid in time")
    await check_accessible(page)


async def test_the_gate_is_steered_from_the_page(console: Console) -> None:
    """A user is denied and let in again, a policy is set: each on record with the operator."""
    user = new_id("bot")
    sku = await open_sale(console.mesh, sale_terms())
    page = await console.show(await console.seat(), f"lists?user={user}")
    await page.get_by_label("Reason").fill("<i>a test</i>")
    await press(page, "Add an entry")
    await expect(dialog(page)).to_contain_text("Every call of this User is refused")
    await agree(page, "Add an entry")
    row = page.get_by_role("row").filter(has_text=user)
    await expect(row).to_contain_text("<i>a test</i>")
    await row.get_by_role("button", name="Remove").click()
    await agree(page, "Remove")
    await expect(row).to_have_count(0)
    await console.show(page, f"policies?sku={sku}")
    await press(page, "Set the policy")
    await dialog(page).get_by_label("Challenge from score").fill("40")
    await agree(page, "Set the policy")
    await expect(page.get_by_role("row").filter(has_text=sku)).to_contain_text("40")
    await console.show(page, "log?of=gate")
    table = page.get_by_role("table", name="Rules of the gate")
    await expect(table).to_contain_text("Policy set")
    await expect(table).to_contain_text("olga")


async def test_the_kill_switch_stops_everything_and_says_so_everywhere(console: Console) -> None:
    """It asks first, with how many sales and units; its state is in the head of each view."""
    page = await console.show(await console.seat(), "kill-switch")
    made = changes(page)
    await press(page, "Stop all selling")
    await expect(dialog(page)).to_contain_text("Sales that sell at this moment")
    await leave(page)
    assert made == []
    await press(page, "Stop all selling")
    await dialog(page).get_by_label("Reason").fill("a test")
    await agree(page, "Stop all selling")
    try:
        await expect(page.locator("#switch-state")).to_have_text("All selling is stopped")
        await check_accessible(page)
    finally:
        await press(page, "Sell again")
        await agree(page, "Sell again")
    await expect(page.locator("#switch-state")).to_have_text("Kill switch off")
    assert made == ["SetKillSwitch", "SetKillSwitch"]


async def test_a_rehearsal_sells_exactly_what_there_is(console: Console) -> None:
    """Set a product and its quantity, send the requests, see the orders listed."""
    page = await console.show(await console.seat(), "rehearsal")
    await page.get_by_label("Units for sale").fill("25")
    await page.get_by_label("Requests").fill("300")
    await press(page, "Send the requests")
    await expect(dialog(page)).to_contain_text("25 units is created, and 300 buyers")
    await agree(page, "Send the requests")
    await expect(page.get_by_role("heading", name="25 orders hold 25 units")).to_be_visible()
    await expect(page.locator("main tbody tr")).to_have_count(25)
    await expect(page.locator(".tile.lead")).to_contain_text("300")
    await check_accessible(page)


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
async def test_each_view_is_accessible(console: Console, look: str) -> None:
    """On a desk in English and on a phone in Chinese, light and dark each."""
    page = await console.seat(**LOOKS[look])
    for view in VIEWS:
        await console.show(page, view)
        await check_accessible(page)
