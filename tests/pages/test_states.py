"""Each state of the storefront in Chinese on a desk, light and dark.

The other tests look at each in English on a phone as they come through it.
"""

import pytest

from tests.kits.pages import DESK, Shop, check_accessible
from tests.pages.screens import STATES


@pytest.mark.parametrize("state", STATES)
async def test_a_state_is_accessible_in_chinese(shop: Shop, state: str) -> None:
    """Words, contrast, order of the keys; the same states as in docs/screens."""
    page = await STATES[state](shop, {"viewport": DESK, "locale": "zh-CN"})
    assert await page.locator("html").get_attribute("lang") == "zh-Hans"
    await check_accessible(page)
