"""The site itself: its size, what caches may keep, what its pages may do, and both languages."""

import re
import time

from playwright.async_api import Response, expect

from tests.kits.actions import open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.pages import Shop, order_no, press, sale_path

PAGE_BYTES_MAX = 50_000


async def test_the_page_of_a_sale_is_small_and_keeps_what_it_may(shop: Shop) -> None:
    """Everything that it loads, uncompressed, from first sight to an order."""
    sku = await open_sale(shop.mesh, sale_terms())
    page = await (await shop.device(new_id("buyer"))).new_page()
    loaded: list[Response] = []

    def note(response: Response) -> None:
        loaded.append(response)

    page.on("response", note)
    await page.goto(shop.origin + sale_path(sku))
    await press(page)
    await order_no(page)
    files = [response for response in loaded if "/v1/" not in response.url]
    bodies = [await response.body() for response in files]
    # Sentences for refusals come if a call was refused, as it may be on a busy machine.
    assert sum(len(body) for body in bodies if b"reason.OVERLOADED" not in body) < PAGE_BYTES_MAX
    for response in files:
        kept = "immutable" in (await response.all_headers())["cache-control"]
        assert kept is ("/assets/" in response.url), response.url
    policy = (await files[0].all_headers())["content-security-policy"]
    assert "'unsafe" not in policy
    for rule in ("default-src 'self'", "base-uri 'none'", "frame-ancestors 'none'", "form-action"):
        assert rule in policy


async def test_nothing_inline_runs(shop: Shop) -> None:
    """What somebody managed to put into a page stays text."""
    page = await shop.visit("", "/")
    await page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    await expect(page.locator("img[src=x]")).to_be_attached()
    await page.wait_for_function("document.querySelector('img[src=x]').complete")
    assert await page.evaluate("window.ran") is None
    assert [fault for fault in shop.faults if "Content Security Policy" in fault]
    shop.faults.clear()


async def test_the_language_is_the_browsers_until_the_buyer_chooses(shop: Shop) -> None:
    """A change of language goes on where the buyer was."""
    sku = await open_sale(shop.mesh, sale_terms())
    page = await shop.visit(new_id("buyer"), sale_path(sku), locale="zh-CN")
    await expect(page.locator("#buy")).to_have_text("立即抢购 ¥9.90")
    await press(page)
    await expect(page.locator("#order")).to_contain_text("抢到了")
    await page.get_by_role("button", name="Change the language to English").click()
    await expect(page.locator("#order")).to_contain_text("It is yours")


async def test_pages_and_the_clock_cost_the_gateway_nothing(shop: Shop) -> None:
    """Envoy answers from its memory; the clock is right to the millisecond."""
    passed_on = shop.edge.passed_on()
    page = (await shop.edge.call("GET", "/sale/")).body.decode()
    names = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)
    assert len(names) > 10
    for name in names:
        assert (await shop.edge.call("GET", name)).status == 200
    before_s = time.time()
    clock = await shop.edge.call("GET", "/v1/clock")
    assert before_s - 0.001 <= float(clock.headers["x-time"]) <= time.time()
    assert clock.headers["cache-control"] == "no-store"
    assert shop.edge.passed_on() == passed_on
