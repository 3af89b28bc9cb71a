"""Who may do what at the console: nobody without a token, and a buyer nothing at all."""

import re

import pytest
from playwright.async_api import expect

from tests.kits.console import VIEWS, Console, changes
from tests.kits.factories import new_id
from tests.kits.pages import DESK, check_accessible


async def test_a_buyer_sees_nothing_but_that_they_may_not(console: Console) -> None:
    """Each view that asks for anything says so in the services' words."""
    page = await console.seat(new_id("bob"), roles=())
    made = changes(page)
    for view in sorted(set(VIEWS) - {"sales/new", "rehearsal", "review", "audit", "reconcile"}):
        await page.goto(f"{console.origin}/console/#/{view}")
        alert = page.get_by_role("alert").first
        await expect(alert).to_contain_text("list the role operator")
        await expect(alert).to_contain_text("NOT_ALLOWED")
    assert made == []
    await check_accessible(page)


async def test_nobody_is_asked_to_sign_in_first(console: Console) -> None:
    """Whatever the address; a token that is none is refused by the page, an old one by the edge."""
    context = await console.device(viewport=DESK)
    page = await context.new_page()
    await page.goto(f"{console.origin}/console/#/kill-switch")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await check_accessible(page)
    await page.get_by_text("Use a token").click()
    await page.get_by_label("Token (JWT)").fill("nonsense")
    await page.get_by_role("button", name="Sign in").last.click()
    await expect(page.locator("#notices")).to_contain_text("This is not a JWT.")
    old = console.mesh.issuer.token("olga", roles=["operator"], ttl_s=-60)
    await page.get_by_label("Token (JWT)").fill(old)
    await page.get_by_role("button", name="Sign in").last.click()
    await expect(page.locator("#notices")).to_contain_text("Jwt is expired")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_token_comes_back_only_with_the_state_that_was_sent(console: Console) -> None:
    """Somebody else's link does not sign an operator in."""
    token = console.mesh.issuer.token("mallory", roles=["operator"])
    page = await (await console.device(viewport=DESK)).new_page()
    await page.goto(f"{console.origin}/console/#token={token}&state=guessed")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "token" not in page.url
    await page.evaluate("sessionStorage.setItem('seckill.operator.state', 'sent')")
    await page.goto("about:blank")
    await page.goto(f"{console.origin}/console/#token={token}&state=sent")
    await expect(page.get_by_text("Signed in as mallory")).to_be_visible()
    assert "token" not in page.url


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_signing_out_forgets_the_token(console: Console, language: str) -> None:
    """Also after a reload."""
    page = await (await console.device(viewport=DESK, locale=language)).new_page()
    await page.goto(f"{console.origin}/console/")
    await page.locator("main form button").first.click()
    await expect(page.locator("#nav")).to_be_visible()
    await page.get_by_role("button", name=re.compile("^(Sign out|退出)$")).click()
    await expect(page.locator("#nav")).to_be_hidden()
    assert await page.evaluate("sessionStorage.getItem('seckill.operator')") is None
