"""The storefront before a real mesh, and buyers who use it in a real Chromium."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.edge import Edge
from tests.kits.factories import moment
from tests.kits.mesh import Mesh
from tools.debian import find_chromium

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
WAIT_MS = 20_000
START_S = 5.0
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
# The browser's own lines about answers that are no 2xx, and about a network that is switched off.
EXPECTED = "Failed to load resource"

expect.set_options(timeout=WAIT_MS)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A Chromium without a window."""
    program = find_chromium()
    assert program is not None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Shop:
    """A storefront, and what its pages did that no page may do.

    Attributes:
        faults: lines of the browsers' consoles (a violation of the policy is one), and uncaught
            exceptions.
        foreign: addresses that were asked for and are not the shop's.
    """

    mesh: Mesh
    edge: Edge
    browser: Browser
    faults: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Address of the storefront."""
        return f"http://{self.edge.address}"

    async def device(self, user: str = "", *, script: str = "", **options: Any) -> BrowserContext:
        """Return a browser profile of its own, in which this buyer is signed in.

        Args:
            user: nobody by default.
            script: run in each page before its own.
            options: of Playwright's `new_context`; a phone with English words by default.
        """
        kept = {"seckill.identity": self.mesh.issuer.token(user)} if user else {}
        storage = [{"name": name, "value": value} for name, value in kept.items()]
        context = await self.browser.new_context(
            **{
                "viewport": PHONE,
                "locale": "en-GB",
                "reduced_motion": "reduce",
                "storage_state": {"origins": [{"origin": self.origin, "localStorage": storage}]},
                **options,
            }
        )
        self._contexts.append(context)
        if script:
            await context.add_init_script(script)
        context.on("request", self._note_request)
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        return context

    async def open(self, context: BrowserContext, path: str) -> Page:
        """Open a page in a new tab."""
        page = await context.new_page()
        await page.goto(self.origin + path)
        return page

    async def visit(self, user: str, path: str, **options: Any) -> Page:
        """Open a page on a device of the buyer's own; `options` as of `device`."""
        return await self.open(await self.device(user, **options), path)

    async def close(self) -> None:
        """Close all devices."""
        while self._contexts:
            context = self._contexts.pop()
            for page in context.pages:
                # Of calls that a test holds back nobody waits for the end.
                await page.unroute_all(behavior="ignoreErrors")
            await context.close()

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.foreign.append(request.url)

    def _note_console(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(EXPECTED):
            self.faults.append(message.text)


async def start_soon(page: Page, mesh: Mesh, sku: str) -> float:
    """Move a sale's start to a few seconds from now, and have the page look at the sale.

    So the page is there in time, however long a busy machine takes for it.

    Returns:
        The new start, in Unix seconds.
    """
    start = moment(START_S)
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).UpdateSale(
            inventory_pb2.UpdateSaleRequest(sku=sku, start_time=start), timeout=CALL_S
        )
    # As when the buyer comes back to the tab.
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    return start.ToNanoseconds() / 1e9


def sale_path(sku: str) -> str:
    """Return the path of a sale's page."""
    return f"/sale/?sku={sku}"


def calls(page: Page) -> list[Request]:
    """Return a list that the page's calls of the gateway are added to, from now on."""
    made: list[Request] = []
    page.on("request", lambda request: made.append(request) if "/v1/" in request.url else None)
    return made


def named(made: list[Request], ending: str) -> list[Request]:
    """Return those calls whose path ends so."""
    return [call for call in made if call.url.endswith(ending)]


def request_ids(made: list[Request]) -> set[str]:
    """Return the request ids of purchases."""
    return {json.loads(call.post_data or "")["request_id"] for call in made}


async def press(page: Page) -> None:
    """Press the button once it is alive."""
    await page.locator("#buy[aria-disabled=false]").click()


async def order_no(page: Page) -> str:
    """Return the number of the order that a page shows."""
    link = page.locator("#order a[href^='/order/']")
    await expect(link).to_be_visible()
    return await link.inner_text()


async def check_accessible(page: Page) -> None:
    """Have axe look at the page as it is, light and dark; nothing may be wrong or cut off."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    await page.emulate_media(color_scheme="light")
    told = await _violations(page, list(RULES))
    await page.emulate_media(color_scheme="dark")
    # Nothing but the colours is another.
    told += await _violations(page, {"type": "rule", "values": ["color-contrast"]})
    assert not told, told
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(over) <= 0


async def _violations(page: Page, rules: object) -> list[str]:
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    results = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']]}"
        for one in results["violations"]
    ]
