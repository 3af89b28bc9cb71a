"""What operators put right at the console: hoarded units, and webhooks that nobody took."""

from playwright.async_api import Page, expect

from tests.kits.actions import open_sale
from tests.kits.console import Console, agree, changes, close, dialog, leave, press
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import sale_terms
from tests.kits.pages import check_accessible
from tests.kits.waiting import eventually
from tests.kits.webhooks import Received, Receiver, accept

BUYERS = 3


async def logged(console: Console, page: Page, *words: str) -> str:
    """Return the line of the operators' log with these words, once Envoy has written it."""
    await console.show(page, "log")

    async def look() -> list[str]:
        await page.reload()
        await expect(page.locator("main .pages")).to_be_visible()
        lines = await page.locator("main tbody tr").all_inner_texts()
        return [line for line in lines if all(word in line for word in words)]

    return (await eventually(look, bool))[0]


async def test_units_of_a_cluster_go_back_on_sale(console: Console) -> None:
    """Orders that belong together are looked at, voided after a question, and on record."""
    sku = await open_sale(console.mesh, sale_terms(units=BUYERS))
    numbers = []
    for _ in range(BUYERS):
        order_no = (await json_buyer(console.edge, console.mesh).buy(sku)).order_no
        await console.order_is_written(order_no)
        numbers.append(order_no)
    page = await console.show(await console.seat(), "review")
    made = changes(page)
    await page.get_by_label("Sku").fill(sku)
    # All that come within a minute after the start are early.
    await page.get_by_label("Early").fill("60000")
    await press(page, "Look for clusters")
    row = page.get_by_role("row").filter(has_text="Too early for people")
    await expect(row).to_contain_text(str(BUYERS))
    await check_accessible(page)
    await row.locator("th button").click()
    await expect(dialog(page)).to_contain_text("people who waited, with a good clock")
    await expect(dialog(page)).to_contain_text(numbers[0])
    await check_accessible(page)
    await close(page)

    await row.get_by_role("checkbox").check()
    await press(page, "Void orders")
    await expect(dialog(page)).to_contain_text(
        f"{BUYERS} orders that await payment are cancelled, and {BUYERS} units go back on sale"
    )
    await dialog(page).locator("summary").click()
    await expect(dialog(page).get_by_role("row").filter(has_text=numbers[0])).to_be_visible()
    await check_accessible(page)
    await leave(page)
    assert made == []
    await press(page, "Void orders")
    await dialog(page).get_by_label("Reason").fill("one hand")
    await agree(page, "Void orders")
    await expect(page.locator("#notices")).to_contain_text(f"{BUYERS} orders are voided.")
    assert made == ["VoidOrders"]
    # Nothing of it awaits payment any more.
    await expect(row.get_by_role("checkbox")).to_have_count(0)

    assert "olga" in await logged(console, page, "VoidOrders", sku, "one hand")
    await console.show(page, f"audit?sku={sku}")
    voids = page.get_by_role("table", name="Orders that operators voided")
    await expect(voids.get_by_role("row").filter(has_text=numbers[0])).to_contain_text("one hand")


async def test_a_webhook_that_nobody_took_is_sent_again(
    console: Console, receiver: Receiver
) -> None:
    """The delivery is dead; who redrives it sees it go, and the receiver gets the same event."""
    sku = await open_sale(console.mesh, sale_terms())
    order_no = (await json_buyer(console.edge, console.mesh).buy(sku)).order_no
    await console.order_is_written(order_no)

    async def refuse(_: Received) -> int:
        return 500

    receiver.answer = refuse
    try:
        page = await console.show(await console.seat(), f"orders/{order_no}")
        await press(page, "Cancel the order")
        await agree(page, "Cancel the order")
        await console.show(page, "webhooks")
        row = page.get_by_role("row").filter(has_text=order_no)

        async def listed() -> int:
            await page.reload()
            await expect(page.locator("main h1")).to_have_text("Webhooks")
            await expect(page.locator("main .pages")).to_be_visible()
            return await row.count()

        await eventually(listed, bool)
    finally:
        receiver.answer = accept
    await expect(row).to_contain_text("HTTP 500")
    made = changes(page)
    await row.locator("th button").click()
    await expect(dialog(page)).to_contain_text(order_no)
    await check_accessible(page)
    await close(page)
    await row.get_by_role("checkbox").check()
    await press(page, "Redrive")
    await expect(dialog(page)).to_contain_text("due now, with all their attempts")
    await leave(page)
    assert made == []
    await press(page, "Redrive")
    await agree(page, "Redrive")
    assert made == ["RedriveWebhookDeliveries"]

    async def taken() -> list[str]:
        return [one.id for one in receiver.accepted if order_no in one.body.decode()]

    (event_id,) = await eventually(taken, bool)
    refused = [one.id for one in receiver.requests if order_no in one.body.decode()]
    assert refused == [event_id] * 2
    await eventually(listed, lambda count: count == 0)
    assert "olga" in await logged(console, page, "RedriveWebhookDeliveries")
