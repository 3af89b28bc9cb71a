"""The operators' console before a real mesh, and operators who use it in a real Chromium."""

import json
from typing import Any, cast

from playwright.async_api import Locator, Page, Request, expect

from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.operator_edge import OPERATOR
from tests.kits.pages import DESK, Shop
from tests.kits.waiting import eventually

# The views that can be shown without anything in the mesh, by their addresses.
VIEWS = (
    "sales",
    "sales/new",
    "rehearsal",
    "kill-switch",
    "orders",
    "payments",
    "review",
    "lists",
    "limits",
    "policies",
    "audit",
    "reconcile",
    "dead-letters",
    "webhooks",
    "log",
)


class Console(Shop):
    """A console; what its pages may not do is noted as for a storefront."""

    @property
    def origin(self) -> str:
        """Address of the operators' listener."""
        return f"http://127.0.0.1:{self.edge.ports.operator}"

    async def seat(
        self, user: str = OPERATOR, *, roles: tuple[str, ...] = ("operator",), **options: Any
    ) -> Page:
        """Return a tab in which this person is signed in; `options` as of `device`."""
        token = json.dumps(self.mesh.issuer.token(user, roles=roles))
        context = await self.device(
            # Not on the empty page that each tab starts with: it has no storage.
            script=f"if (location.host) sessionStorage.setItem('seckill.operator', {token});",
            **{"viewport": DESK, **options},
        )
        return await context.new_page()

    async def show(self, page: Page, view: str) -> Page:
        """Show a view, and wait until it is there."""
        await page.goto(f"{self.origin}/console/#/{view}")
        await settled(page)
        return page

    async def order_is_written(self, order_no: str) -> None:
        """Wait until a reservation has become an order."""
        asked = order_pb2.BatchGetOrdersRequest(order_nos=[order_no])
        async with self.mesh.channel("order") as channel:
            stub = order_pb2_grpc.OrderServiceStub(channel)
            await eventually(
                lambda: stub.BatchGetOrders(asked, timeout=CALL_S),
                lambda answer: bool(answer.orders[0]),
            )

    def _note_request(self, request: Request) -> None:
        # Rehearsals call the edge that buyers call.
        if not request.url.startswith((self.origin, f"http://{self.edge.address}")):
            self.foreign.append(request.url)


async def settled(page: Page) -> None:
    """Wait until a view has its heading."""
    await expect(page.locator("main h1")).to_be_visible()


async def press(page: Page, name: str) -> None:
    """Press a button of the view."""
    await page.locator("main").get_by_role("button", name=name, exact=True).click()


def dialog(page: Page) -> Locator:
    """Return the dialog that asks."""
    return page.get_by_role("dialog")


async def agree(page: Page, verb: str) -> None:
    """Press the dialog's button, and see it close."""
    await dialog(page).get_by_role("button", name=verb, exact=True).click()
    await expect(dialog(page)).to_have_count(0)


async def leave(page: Page) -> None:
    """Cancel what the dialog asks."""
    await dialog(page).get_by_role("button", name="Cancel").click()
    await expect(dialog(page)).to_have_count(0)


async def close(page: Page) -> None:
    """Close what a dialog tells."""
    await dialog(page).get_by_role("button", name="Close").click()
    await expect(dialog(page)).to_have_count(0)


def changes(page: Page) -> list[str]:
    """Return a list that the names of changing methods are added to when the page calls them.

    Not those of calls that only ask what would be done.
    """
    made: list[str] = []
    reads = ("Get", "List", "Audit", "Explain", "Review")

    def note(request: Request) -> None:
        method = request.url.rpartition("/")[2]
        if "seckill.v1." in request.url and not method.startswith(reads):
            asked = cast("dict[str, Any]", request.post_data_json)
            if asked.get("repair", method != "Reconcile") and not asked.get("dryRun"):
                made.append(method)

    page.on("request", note)
    return made
