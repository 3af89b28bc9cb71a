"""What cannot be taken back asks first, says what it will do, and does nothing if it is left."""

from aiokafka import AIOKafkaProducer
from playwright.async_api import Page, ViewportSize, expect

from inventory_svc.keys import stock_key
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.actions import CALL_S, open_sale
from tests.kits.console import Console, agree, changes, close, dialog, leave, press
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.operator import authorization
from tests.kits.pages import check_accessible
from tests.kits.stores import client_of
from tests.kits.waiting import eventually

ORDERS_TOPIC = "seckill.orders.v1"


async def asked(page: Page, name: str, words: str) -> None:
    """Press a button, read what the dialog says, and leave it."""
    await press(page, name)
    await expect(dialog(page)).to_contain_text(words)
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog(page)).to_have_count(0)


async def paid_order(console: Console, sku: str, *, amount_more: int = 0) -> str:
    """Have a buyer order, and a provider take a payment for it."""
    order_no = (await json_buyer(console.edge, console.mesh).buy(sku)).order_no
    amount = order_pb2.ConfirmPaymentRequest().amount
    amount.CopyFrom(PRICE)
    amount.minor_units += amount_more
    shop = authorization(console.mesh.issuer.token("shop", roles=["service"]))
    await console.order_is_written(order_no)
    async with console.mesh.channel("order") as channel:
        stub = order_pb2_grpc.OrderServiceStub(channel)
        call = stub.ConfirmPayment(
            order_pb2.ConfirmPaymentRequest(
                order_no=order_no, provider="psp", payment_id=new_id("pay"), amount=amount
            ),
            metadata=shop,
            timeout=CALL_S,
        )
        if amount_more:
            # The wrong amount is refused, and stands to be refunded.
            assert await call.code() is not None
        else:
            await call
    return order_no


async def test_a_sale_is_not_changed_by_a_dialog_that_is_left(console: Console) -> None:
    """Each says what it will do, with the numbers of now."""
    sku = await open_sale(console.mesh, sale_terms(units=7))
    page = await console.show(await console.seat(), f"sales/{sku}")
    made = changes(page)
    await page.set_viewport_size(ViewportSize(width=360, height=740))
    await asked(page, "Pause", "7 of 7")
    await page.set_viewport_size(ViewportSize(width=1280, height=800))
    await asked(page, "Close", "The 7 units that are left are not sold any more")
    await asked(page, "Add units", "Units can not be taken away again")
    await asked(page, "Change", "title and price are fixed")
    await press(page, "Pause")
    # What is safe has the focus.
    await expect(dialog(page).get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog(page)).to_have_count(0)
    assert made == []


async def test_money_is_put_on_record_after_a_question(console: Console) -> None:
    """A refund of an order, and a payment that paid nothing."""
    sku = await open_sale(console.mesh, sale_terms(units=5))
    refunded = await paid_order(console, sku)
    page = await console.show(await console.seat(), f"orders/{refunded}")
    made = changes(page)
    await asked(page, "Record a refund", "9.90 CNY")
    assert made == []
    await press(page, "Record a refund")
    await dialog(page).get_by_label("Refund", exact=True).fill("refund-1")
    await dialog(page).get_by_label("Its units").select_option("Back on sale: 1 unit")
    await agree(page, "Record a refund")
    await expect(page.locator("h1 .chip")).to_have_text("Refunded")
    unused = await paid_order(console, sku, amount_more=1)
    await console.show(page, "payments")
    row = page.get_by_role("row").filter(has_text=unused)
    await expect(row).to_contain_text("Wrong amount")
    await row.get_by_role("button", name="Settle").click()
    await expect(dialog(page)).to_contain_text("9.91 CNY")
    await leave(page)
    await row.get_by_role("button", name="Settle").click()
    await dialog(page).get_by_label("Refund", exact=True).fill("refund-2")
    await agree(page, "Settle")
    await expect(row).to_have_count(0)
    assert made == ["RefundOrder", "SettlePayment"]


async def test_reconcile_shows_its_findings_before_anything_changes(console: Console) -> None:
    """Two units that Redis withholds: seen, left, then put on sale."""
    sku = await open_sale(console.mesh, sale_terms(units=9))
    async with client_of(console.mesh.stores.redis_url) as store:
        await store.decrby(stock_key(sku), 2)
        page = await console.show(await console.seat(), f"reconcile?sku={sku}")
        made = changes(page)
        await expect(page.get_by_role("row").filter(has_text="Counter")).to_contain_text("-2")
        await asked(page, "Repair", "counter of units on sale set right: 1")
        assert (await store.get(stock_key(sku)), made) == (b"7", [])
        await press(page, "Repair")
        await dialog(page).get_by_label("Also put 2 units on sale").check()
        await agree(page, "Repair")
        await expect(page.get_by_role("row").filter(has_text="Counter")).to_contain_text("Repaired")
        assert await store.get(stock_key(sku)) == b"9"


async def test_a_dead_letter_is_looked_at_and_dropped(console: Console) -> None:
    """With a reason, which stays on record."""
    bootstrap = console.mesh.stores.kafka_bootstrap
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(ORDERS_TOPIC, b"no message at all")
    page = await console.show(await console.seat(), "dead-letters")

    async def listed() -> int:
        await page.reload()
        await expect(page.locator("main .pages")).to_be_visible()
        return await page.locator("main tbody tr").count()

    await eventually(listed, lambda count: count > 0)
    made = changes(page)
    row = page.locator("main tbody tr").first
    await row.locator("th button").click()
    await expect(dialog(page)).to_contain_text("17 B")
    await check_accessible(page)
    await close(page)
    await row.get_by_role("checkbox").check()
    await asked(page, "Redrive", "go back to the topic")
    await press(page, "Drop")
    await dialog(page).get_by_label("Why nothing is to be done").fill("a test")
    await agree(page, "Drop")
    assert made == ["DropDeadLetters"]


async def test_rules_of_the_gate_ask_first(console: Console) -> None:
    """A limit, and all limits at once."""
    page = await console.show(await console.seat(), "limits")
    made = changes(page)
    row = page.get_by_role("row").filter(has_text="rate_user").first
    await row.get_by_role("button").click()
    await expect(dialog(page)).to_contain_text("gateways' setting")
    await leave(page)
    assert made == []
    await row.get_by_role("button").click()
    await dialog(page).get_by_label("Value").fill("50")
    await agree(page, "Set")
    await expect(row).to_contain_text("50")
    await asked(page, "Reset all", "rate_user")
    await press(page, "Reset all")
    await agree(page, "Reset all")
    await expect(row).not_to_contain_text("50")
    assert made == ["SetLimits", "ResetLimits"]
