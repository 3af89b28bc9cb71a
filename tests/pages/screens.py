"""Takes a picture of each state of the storefront: `make screens` writes docs/screens/.

On a mesh of its own, as the tests: 360 and 1,280 pixels wide, in both languages, light and dark,
each state in four of the eight combinations.
"""

import argparse
import asyncio
import base64
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Route, expect

from devstack import LocalSettings, LocalStack, Stores, create_topics
from devstack.mesh import REPOSITORY_ROOT, TOPIC_SETTINGS, TOPICS
from order_svc.db.migrate import migrate
from seckill.v1 import gate_pb2, sale_pb2
from tests.kits.actions import open_sale
from tests.kits.edge import Edge
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import new_id, sale_terms
from tests.kits.gate_policy import set_policy
from tests.kits.mesh import Mesh
from tests.kits.pages import DESK, PHONE, Shop, order_no, press, running_browser, sale_path

FOLDER = REPOSITORY_ROOT / "docs" / "screens"
QUALITY = 72
WEEK_S = 7 * 86_400.0
SETTINGS = {"SECKILL_GATEWAY_RISK_ACCOUNT_CLAIM": "opened"}
COMBINATIONS: dict[str, dict[str, Any]] = {
    "phone-en-light": {"viewport": PHONE, "locale": "en-GB", "color_scheme": "light"},
    "phone-zh-dark": {"viewport": PHONE, "locale": "zh-CN", "color_scheme": "dark"},
    "desk-zh-light": {"viewport": DESK, "locale": "zh-CN", "color_scheme": "light"},
    "desk-en-dark": {"viewport": DESK, "locale": "en-GB", "color_scheme": "dark"},
}
LAMP = ("lamp", "Walnut desk lamp 胡桃木台灯", 12_900)
State = Callable[[Shop, dict[str, Any]], Awaitable[Page]]


async def put_sale(shop: Shop, name: str, title: str, price: int, **changes: Any) -> str:
    """Open a sale that looks like one of a shop; a name gives the same picture each time."""
    terms = sale_terms(
        sku=f"{name}-{new_id('s')[-4:]}", **{"units": 40, "ends_in_s": WEEK_S, **changes}
    )
    terms.title = title
    terms.unit_price.CopyFrom(sale_pb2.Money(currency="CNY", minor_units=price))
    return await open_sale(shop.mesh, terms)


async def see_list(shop: Shop, options: dict[str, Any]) -> Page:
    page = await shop.visit("", "/", **options)
    await expect(page.locator(".card").first).to_be_visible()
    return page


async def see_before(shop: Shop, options: dict[str, Any]) -> Page:
    sku = await put_sale(shop, *LAMP, starts_in_s=754.0)
    page = await shop.visit("ada", sale_path(sku), **options)
    await expect(page.locator("#countdown")).to_be_visible()
    return page


async def see_open(shop: Shop, options: dict[str, Any]) -> Page:
    sku = await put_sale(shop, *LAMP)
    for _ in range(17):
        await json_buyer(shop.edge, shop.mesh).buy(sku)
    page = await shop.visit("ada", sale_path(sku), **options)
    await expect(page.locator("#buy[aria-disabled=false]")).to_be_visible()
    return page


async def see_signed_out(shop: Shop, options: dict[str, Any]) -> Page:
    page = await shop.visit("", sale_path(await put_sale(shop, *LAMP)), **options)
    await page.locator("#sign-in").click()
    await page.locator("#user").fill("ada")
    return page


async def see_line(shop: Shop, options: dict[str, Any]) -> Page:
    page = await shop.visit("ada", sale_path(await put_sale(shop, *LAMP)), **options)
    await page.route("**:purchase", _hold)
    await press(page)
    await expect(page.locator("#result")).to_be_visible()
    return page


async def see_challenge(shop: Shop, options: dict[str, Any]) -> Page:
    sku = await put_sale(shop, *LAMP)
    await set_policy(shop.mesh, gate_pb2.SalePolicy(sku=sku, challenge_at=10))
    page = await shop.visit("ada", sale_path(sku), **options)
    await page.route("**/assets/solver.*.js", _hold)
    async with page.expect_request("**/assets/solver.*.js"):
        await press(page)
    return page


async def see_yours(shop: Shop, options: dict[str, Any]) -> Page:
    page = await shop.visit(new_id("ada"), sale_path(await put_sale(shop, *LAMP)), **options)
    await press(page)
    await order_no(page)
    return page


async def see_payment(shop: Shop, options: dict[str, Any]) -> Page:
    page = await see_yours(shop, options)
    await page.locator("#order a.primary").click()
    await expect(page.locator("#pay")).to_be_visible()
    return page


async def see_paid(shop: Shop, options: dict[str, Any]) -> Page:
    page = await see_payment(shop, options)
    await page.locator("#pay").click()
    await expect(page.locator("#order[data-state=PAID]")).to_be_visible()
    await expect(page.locator("#picture svg")).to_be_visible()
    return page


async def see_sold_out(shop: Shop, options: dict[str, Any]) -> Page:
    sku = await put_sale(shop, *LAMP, units=3)
    for _ in range(3):
        rival = json_buyer(shop.edge, shop.mesh)
        await rival.buy(sku)
        await rival.wait()
    page = await shop.visit("ada", sale_path(sku), **options)
    await expect(page.locator("#returning")).to_contain_text("3")
    return page


async def see_run_out(shop: Shop, options: dict[str, Any]) -> Page:
    sku = await put_sale(shop, *LAMP, units=1, payment_window_s=2.0)
    page = await shop.visit(new_id("ada"), sale_path(sku), **options)
    await press(page)
    await expect(page.locator("#order[data-state=RESTORED]")).to_be_visible()
    await json_buyer(shop.edge, shop.mesh).buy(sku)
    await page.goto(f"{shop.origin}/order/?no={await order_no(page)}")
    await expect(page.locator("#order[data-state=RESTORED]")).to_be_visible()
    await expect(page.locator("#picture svg")).to_be_visible()
    return page


STATES: dict[str, State] = {
    "list": see_list,
    "before": see_before,
    "open": see_open,
    "sign-in": see_signed_out,
    "line": see_line,
    "challenge": see_challenge,
    "yours": see_yours,
    "payment": see_payment,
    "paid": see_paid,
    "sold-out": see_sold_out,
    "run-out": see_run_out,
}


async def _hold(_: Route) -> None:
    """Never go on."""


async def fill_list(shop: Shop) -> None:
    """Open some sales for the list."""
    await put_sale(shop, *LAMP)
    await put_sale(shop, "kettle", "Copper kettle 铜壶", 39_900, starts_in_s=5_234.0)
    await put_sale(shop, "radio", "Table radio 收音机", 59_900, units=1)
    await put_sale(shop, "scarf", "Merino scarf 羊毛围巾", 8_800, starts_in_s=200_000.0)
    sku = await put_sale(shop, "clock", "Wall clock 挂钟", 19_900, units=1)
    await json_buyer(shop.edge, shop.mesh).buy(sku)


async def take(page: Page, path: Path) -> None:
    """Write what a page shows."""
    await page.evaluate("document.fonts.ready")
    session = await page.context.new_cdp_session(page)
    shot = await session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


async def take_all(stores: Stores, directory: Path, names: list[str]) -> None:
    """Take all pictures on a mesh of these stores."""
    await create_topics(stores.kafka_bootstrap, TOPICS, TOPIC_SETTINGS)
    await migrate(stores.postgres_dsn)
    with (
        Mesh(stores, directory=directory, settings=SETTINGS) as mesh,
        Edge(mesh.settings, directory=directory) as edge,
    ):
        async with running_browser() as browser:
            shop = Shop(mesh, edge, browser)
            await fill_list(shop)
            for name in names:
                for combination, options in COMBINATIONS.items():
                    await take(
                        await STATES[name](shop, options), FOLDER / f"{name}-{combination}.webp"
                    )
                    await shop.close()


def main() -> None:
    """Take what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="STATE", help=", ".join(STATES))
    names: list[str] = parser.parse_args().names or list(STATES)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with LocalStack(LocalSettings(directory=directory / "stores")) as stack:
            asyncio.run(take_all(stack.stores, directory, names))


if __name__ == "__main__":
    main()
