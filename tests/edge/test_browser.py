"""A real browser buys with `fetch`, in the README's own words."""

import asyncio
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.mesh import REPOSITORY_ROOT
from devstack.ports import LOOPBACK
from tests.kits.actions import open_sale
from tests.kits.edge import Edge
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tools.debian import find_chromium

BROWSER_S = 90.0
PAGE = """<!doctype html>
<p>waiting</p>
<script type="module" src="page.js"></script>
"""
SCRIPT = """const [edge, sku, jwt] = location.hash.slice(1).split(",");
const issued = await fetch(`${{edge}}/v1/sales/${{sku}}:issuePurchaseToken`, {{
  method: "POST",
  headers: {{ authorization: `Bearer ${{jwt}}`, "content-type": "application/json" }},
  body: "{{}}",
}});
const token = (await issued.json()).purchaseToken;
{snippet}
document.querySelector("p").textContent = `${{outcome}} ${{orderNo}}`;
"""


def script() -> str:
    """Return what does as the README says, for the sale and edge in the page's address."""
    readme = (REPOSITORY_ROOT / "README.md").read_text()
    (snippet,) = re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    told = snippet.replace('"/v1/sales/phone:purchase"', "`${edge}/v1/sales/${sku}:purchase`")
    assert told != snippet
    return SCRIPT.format(snippet=told)


@pytest.fixture(scope="module")
def browser() -> str:
    """A Chromium without a window."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium on PATH: `make packages` installs one")
    return found


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page."""
    folder: Path = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text(PAGE)
    (folder / "page.js").write_text(script())
    return folder


@pytest.fixture(scope="module")
def shop(mesh: Mesh, web: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge that serves the page too."""
    settings = {"SECKILL_EDGE_WEB_DIRECTORY": str(web)}
    with Edge(
        mesh.settings, directory=tmp_path_factory.mktemp("shop"), settings=settings
    ) as running:
        yield running


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def other_origin(folder: Path) -> Iterator[str]:
    """A server of static files that is not the edge."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()


async def shown(browser: str, url: str, profile: Path) -> str:
    """Return what the page shows in the end."""
    process = await asyncio.create_subprocess_exec(
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        # Its clock stands still while it waits for the network.
        *("--virtual-time-budget=30000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(BROWSER_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (text,) = re.findall(r"<p>(.*?)</p>", out.decode())
    return str(text)


@pytest.mark.parametrize("origin", ["the edge", "another"])
async def test_fetch_buys_a_unit(
    shop: Edge, mesh: Mesh, web: Path, browser: str, tmp_path: Path, origin: str
) -> None:
    """From a page of the edge's own, and from another origin's, after its preflight."""
    sku, user = await open_sale(mesh, sale_terms(units=1)), new_id("buyer")
    edge = f"http://{shop.address}"
    told = f"#{edge},{sku},{mesh.issuer.token(user)}"
    with other_origin(web) as elsewhere:
        page_origin = edge if origin == "the edge" else elsewhere
        text = await shown(browser, f"{page_origin}/{told}", tmp_path)
    outcome, order_no = text.split()
    assert outcome == "PURCHASE_OUTCOME_RESERVED"
    assert len(order_no) == 26
