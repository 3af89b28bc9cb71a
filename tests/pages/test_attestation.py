"""A shop whose gate asks for an attestation: its own script shows a provider's widget."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from devstack.pages import FOLDER
from seckill.v1 import gate_pb2
from tests.kits.actions import open_sale
from tests.kits.edge import Edge
from tests.kits.factories import new_id, sale_terms
from tests.kits.gate_policy import set_policy
from tests.kits.mesh import Mesh
from tests.kits.pages import (
    Shop,
    calls,
    check_accessible,
    named,
    order_no,
    press,
    sale_path,
)
from tests.kits.waiting import eventually

SCRIPT = "attestation.js"
# What a provider serves: a button instead of a look at the browser.
WIDGET = """
export function render(place, { siteKey, customerData, language, done }) {
  const box = document.createElement("button");
  box.textContent = `I am a person (${siteKey}, ${language})`;
  box.addEventListener("click", () => done(`passed ${customerData}`));
  place.append(box);
}
"""
# What a shop writes.
SHOP_SCRIPT = """
const {{ render }} = await import("{origin}/widget.js");
export default ({{ siteKey, challenge, place, language }}) =>
  new Promise((done) => render(place, {{ siteKey, customerData: challenge, language, done }}));
"""


@dataclass
class Provider:
    """Serves its widget, and says that tokens of it are good."""

    origin: str = ""
    forms: list[dict[str, str]] = field(default_factory=list)

    async def widget(self, _: web.Request) -> web.Response:
        headers = {"access-control-allow-origin": "*"}
        return web.Response(text=WIDGET, content_type="text/javascript", headers=headers)

    async def verify(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append(form)
        passed, _, customer_data = form["response"].partition(" ")
        return web.json_response({"success": passed == "passed", "cdata": customer_data})


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    """A provider on an origin of its own."""
    made = Provider()
    app = web.Application()
    app.router.add_get("/widget.js", made.widget)
    app.router.add_post("/siteverify", made.verify)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture(scope="module")
async def asking(
    mesh: Mesh, provider: Provider, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A gateway of the same mesh that asks for attestations, with an edge and pages of its own."""
    directory = tmp_path_factory.mktemp("attestation")
    (directory / "secrets").symlink_to(mesh.directory / "secrets")
    shared = (
        "SECKILL_ORDER_TARGET",
        "SECKILL_INVENTORY_TARGET",
        "SECKILL_GATEWAY_RISK_ACCOUNT_CLAIM",
    )
    gateway = Mesh(
        mesh.stores,
        directory=directory,
        settings={
            **{name: mesh.settings[name] for name in shared},
            "SECKILL_GATEWAY_CHALLENGE": "attestation",
            "SECKILL_GATEWAY_ATTESTATION_URL": f"{provider.origin}/siteverify",
            "SECKILL_GATEWAY_ATTESTATION_SECRET": "our-secret",
            "SECKILL_GATEWAY_ATTESTATION_SITE_KEY": "our-site",
        },
    )
    # Only the gateway of these four is started.
    gateway.restart("gateway")
    try:
        (directory / "edge").mkdir()
        settings = {"SECKILL_EDGE_ATTESTATION_ORIGINS": provider.origin}
        edge = Edge(gateway.settings, directory=directory / "edge", settings=settings)
        write_script(edge, provider)
        with edge:
            await eventually(lambda: _status(edge, f"/{SCRIPT}"), lambda status: status == 200)
            yield Shop(mesh, edge, browser)
    finally:
        gateway.stop()


def write_script(edge: Edge, provider: Provider) -> None:
    """Do what a shop does: put a script into the served folder, and name it."""
    folder = edge.directory / FOLDER
    (folder / SCRIPT).write_text(SHOP_SCRIPT.format(origin=provider.origin))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attestation": f"/{SCRIPT}"}))


async def _status(edge: Edge, path: str) -> int:
    return (await edge.call("GET", path)).status


@pytest.fixture
async def attested(asking: Shop) -> AsyncIterator[Shop]:
    """The shop; afterwards its pages have broken no rule."""
    yield asking
    await asking.close()
    assert asking.faults == []


async def test_the_shops_own_widget_supplies_the_token(attested: Shop, provider: Provider) -> None:
    """The page says why, gives it a place, and goes on with what it hands over."""
    sku = await open_sale(attested.mesh, sale_terms())
    await set_policy(attested.mesh, gate_pb2.SalePolicy(sku=sku, challenge_at=10))
    page = await attested.visit(new_id("buyer"), sale_path(sku))
    made = calls(page)
    await press(page)
    await expect(page.locator("#result")).to_contain_text("The shop checks that a person is buying")
    # Nobody else was asked for anything before it was needed.
    assert {url for url in attested.foreign if not url.startswith(provider.origin)} == set()
    await check_accessible(page)
    await page.get_by_role("button", name="I am a person (our-site, en)").click()
    await order_no(page)
    await expect(page.locator("#attestation")).to_be_hidden()
    (form,) = provider.forms
    assert form["secret"] == "our-secret"
    assert len(named(made, ":issuePurchaseToken")) == 2
    assert len(named(made, ":purchase")) == 1


async def test_a_buyer_whom_nothing_is_asked_of_meets_no_third_party(attested: Shop) -> None:
    """The shop's script is not even loaded."""
    sku = await open_sale(attested.mesh, sale_terms())
    attested.foreign.clear()
    page = await attested.visit(new_id("buyer"), sale_path(sku))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await press(page)
    await order_no(page)
    assert attested.foreign == []
    assert not [url for url in asked if SCRIPT in url]


async def test_without_a_script_the_buyer_is_told_what_is_missing(attested: Shop) -> None:
    """No empty box, no endless wait."""
    sku = await open_sale(attested.mesh, sale_terms())
    await set_policy(attested.mesh, gate_pb2.SalePolicy(sku=sku, challenge_at=10))
    device = await attested.device(new_id("buyer"))
    await device.route(
        "**/config.json",
        lambda route: route.fulfill(json={"signIn": "/dev/sign-in/", "pay": ""}),
    )
    page = await attested.open(device, sale_path(sku))
    await press(page)
    await expect(page.locator("#result")).to_contain_text("proof that no program is buying")
    await check_accessible(page)
