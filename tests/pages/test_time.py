"""Time on the pages: the start by the server's clock, and units that come back."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.kits.actions import open_sale
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.pages import (
    Shop,
    calls,
    check_accessible,
    named,
    order_no,
    press,
    sale_path,
    start_soon,
)

FAR_S = 600.0
# The visitor's clock, so many milliseconds away from the server's.
WRONG_CLOCK = """
const Right = Date;
globalThis.Date = class extends Right {{
  constructor(...given) {{ given.length ? super(...given) : super(Right.now() + {away_ms}); }}
  static now() {{ return Right.now() + {away_ms}; }}
}};
"""
# Notes, by the right clock, when the button comes alive.
NOTE_START = """
globalThis.aliveMs = 0;
const now = Date.now.bind(Date);
addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    const button = document.getElementById("buy");
    if (button?.getAttribute("aria-disabled") === "false") globalThis.aliveMs ||= now();
  }).observe(document.body, { attributes: true, subtree: true });
});
"""
# Keeps what the system would show of them.
NOTE_NOTIFICATIONS = """
globalThis.told = [];
globalThis.Notification = class {
  static permission = "granted";
  constructor(text) { globalThis.told.push(text); }
};
"""


async def test_the_button_comes_alive_on_time_though_clocks_are_wrong(shop: Shop) -> None:
    """Ten minutes early or late are nothing to the page, which counts by the server's clock."""

    async def late_s(minutes: int) -> float:
        sku = await open_sale(shop.mesh, sale_terms(starts_in_s=FAR_S))
        script = NOTE_START + WRONG_CLOCK.format(away_ms=minutes * 60_000)
        page = await shop.visit(new_id("buyer"), sale_path(sku), script=script)
        await expect(page.locator("#countdown")).to_be_visible()
        await expect(page.locator("#buy")).to_have_attribute("aria-disabled", "true")
        start_s = await start_soon(page, shop.mesh, sku)
        await press(page)
        await order_no(page)
        return float(await page.evaluate("aliveMs")) / 1000 - start_s

    for late in await asyncio.gather(late_s(-10), late_s(10)):
        # Never before the start; what it is late by is this machine's.
        assert -0.05 < late < 2.0


async def test_a_tab_that_slept_over_the_start_is_awake_at_once(shop: Shop) -> None:
    """Its timers stood still; what it shows when it is looked at is right."""
    sku = await open_sale(shop.mesh, sale_terms(starts_in_s=FAR_S))
    device = await shop.device(new_id("buyer"))
    page = await shop.open(device, sale_path(sku))
    await expect(page.locator("#countdown")).to_be_visible()
    await start_soon(page, shop.mesh, sku)
    session = await device.new_cdp_session(page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    awake = await shop.open(device, sale_path(sku))
    await expect(awake.locator("#buy")).to_have_attribute("aria-disabled", "false")
    await session.send("Page.setWebLifecycleState", {"state": "active"})
    await page.bring_to_front()
    await expect(page.locator("#countdown")).to_be_hidden()
    await press(page)
    await order_no(page)


@pytest.mark.slow
async def test_a_unit_that_is_not_paid_for_goes_to_somebody_else(shop: Shop) -> None:
    """The buyer sees the time run out, and hears who has the unit now."""
    sku = await open_sale(shop.mesh, sale_terms(units=1, payment_window_s=8.0))
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    rival = await shop.visit(new_id("rival"), sale_path(sku), script=NOTE_NOTIFICATIONS)
    await expect(rival.locator("#buy[aria-disabled=false]")).to_be_visible()
    await press(page)
    await expect(page.locator("#order")).to_contain_text("Pay within")
    number = await order_no(page)
    await expect(rival.locator("#returning")).to_contain_text("1 unit is reserved")
    await check_accessible(rival)
    await rival.get_by_role("button", name="Tell me when one is back").click()
    await rival.reload()
    await expect(rival.locator("#returning button")).to_have_attribute("aria-pressed", "true")
    # Within the time that the unit is nobody's.
    await expect(rival.locator("#said")).to_contain_text("Back on sale")
    await expect(rival).to_have_title(re.compile("^● Back on sale"))
    (notification,) = await rival.evaluate("told")
    assert notification.startswith("Back on sale")
    await press(rival)
    await order_no(rival)
    await expect(page.locator("#order")).to_contain_text("Not paid in time")
    await check_accessible(page)
    # Looked at later, as who comes back to it does.
    await page.goto(f"{shop.origin}/order/?no={number}")
    await expect(page.locator("#order")).to_contain_text("somebody else has it now")
    await check_accessible(page)


async def test_a_sale_that_nobody_can_get_a_unit_of_any_more_says_so(shop: Shop) -> None:
    """All units are paid for: there is nothing to wait for but more of them."""
    sku = await open_sale(shop.mesh, sale_terms(units=1))
    rival = json_buyer(shop.edge, shop.mesh)
    await rival.buy(sku)
    await rival.wait()
    await rival.pay(PRICE)
    page = await shop.visit(new_id("buyer"), sale_path(sku))
    await expect(page.locator("#returning")).to_contain_text("All units are paid for")
    made = calls(page)
    # What is dead for people is so for programs, too.
    await page.locator("#buy").click(force=True)
    assert named(made, ":purchase") == []
