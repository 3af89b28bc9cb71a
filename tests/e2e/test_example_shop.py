"""examples/shop: a shop of its own identities over a mesh, from its first sale to a refund."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from devstack import Process, ProcessSpec, Stores
from devstack.deadline import drive
from devstack.ports import pick_free_port
from examples.shop.identity import AUDIENCE, ISSUER, Identity
from examples.shop.shop import UNITS
from tests.kits.factories import new_id
from tests.kits.mesh import ALL_SECURE, Mesh
from tests.kits.own_mesh import own_mesh
from tests.kits.stores import with_database
from tests.kits.waiting import eventually
from tests.kits.webhooks import new_secret

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "inventory", "order")


class ShopDoor:
    """A running shop, as a browser and an operator use it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def post(self, path: str, *, token: str = "", **body: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of an answer."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with self._session.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def state(self) -> dict[str, Any]:
        """Return what the shop knows."""
        async with self._session.get(f"{self.url}/state") as answer:
            state: dict[str, Any] = await answer.json()
            return state

    async def hook_status(self, body: bytes) -> int:
        """Return the answer to a webhook that nobody has signed."""
        async with self._session.post(f"{self.url}/hooks/orders", data=body) as answer:
            return answer.status

    async def order_is(self, order_no: str, kind: str) -> None:
        """Wait until the shop has heard this of an order."""

        async def heard() -> str:
            return str((await self.state())["orders"].get(order_no))

        await eventually(heard, lambda seen: seen == kind)


def start_shop(mesh: Mesh, *, port: int, secret: str) -> Process:
    """Start the shop as docs/integrate.md says."""
    targets = {f"SHOP_{name.upper()}": mesh.address(name) for name in SERVICES}
    return Process(
        ProcessSpec(
            name="shop",
            command=[sys.executable, "-m", "examples.shop.shop"],
            log_path=mesh.directory / "shop.log",
            cwd=ROOT,
            env={
                **os.environ,
                **targets,
                **mesh.shop_settings,
                "SHOP_PORT": str(port),
                "SHOP_KEY": str(mesh.directory / "shop-key.pem"),
                "SHOP_WEBHOOK_SECRET": secret,
            },
            ready=lambda: answers(port),
        )
    )


def answers(port: int) -> bool:
    """Tell whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
async def own_database(stores: Stores, template_database: str) -> str:
    """Create a migrated database for the shop's mesh, and return its DSN."""
    name = new_id("shop").replace("-", "_")
    connection = await asyncpg.connect(stores.postgres_dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    await connection.close()
    return with_database(stores.postgres_dsn, name)


@pytest.fixture(scope="module")
async def shop(
    stores: Stores, own_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ShopDoor]:
    """Start the shop, then a mesh that trusts the shop's identities and tells it of orders."""
    port, secret = pick_free_port(), new_secret()
    url = f"http://127.0.0.1:{port}"
    keys = f"{url}/.well-known/jwks.json"
    settings = {
        "SECKILL_GATEWAY_JWKS": keys,
        "SECKILL_GATEWAY_JWT_ISSUER": ISSUER,
        "SECKILL_GATEWAY_JWT_AUDIENCE": AUDIENCE,
        "SECKILL_ORDER_OPERATOR_JWKS": keys,
        "SECKILL_ORDER_OPERATOR_JWT_ISSUER": ISSUER,
        "SECKILL_ORDER_OPERATOR_JWT_AUDIENCE": AUDIENCE,
        "SECKILL_GATEWAY_SANDBOX_PAYMENTS": "false",
        "SECKILL_ORDER_WEBHOOK_ENDPOINTS": json.dumps(
            [{"name": "shop", "url": f"{url}/hooks/orders", "secret": secret}]
        ),
    }
    async with own_mesh(
        stores,
        redis_url=stores.redis_url,
        database_dsn=own_database,
        directory=tmp_path_factory.mktemp("shop"),
        settings={**settings, "SECKILL_REDIS_PREFIX": "shop"},
        secure=ALL_SECURE,
    ) as mesh:
        process = start_shop(mesh, port=port, secret=secret)
        try:
            await asyncio.to_thread(drive, [process.wait_ready()])
            await asyncio.to_thread(mesh.__enter__)
            async with aiohttp.ClientSession() as session:
                yield ShopDoor(url, session)
        finally:
            mesh.stop()
            process.stop()


async def log_in(shop: ShopDoor) -> str:
    """Return the token of a new buyer, signed by the shop."""
    _, answer = await shop.post("/login", name=new_id("buyer"))
    return str(answer["token"])


async def test_a_sale_from_the_shops_first_call_to_a_refund(shop: ShopDoor) -> None:
    """Its identities count, its webhooks come signed, its payments and refunds are facts."""
    assert (await shop.post("/sale"))[1]["remaining"] == UNITS
    assert (await shop.post("/sale"))[1]["remaining"] == UNITS
    token = await log_in(shop)
    _, bought = await shop.post("/buy", token=token)
    assert bought["outcome"] == "RESERVED"
    order = bought["order"]
    await shop.order_is(order, "created")

    status, paid = await shop.post("/pay", order=order)
    assert (status, paid["state"]) == (200, "applied")
    await shop.order_is(order, "paid")
    status, again = await shop.post("/pay", order=order)
    assert (status, again["state"]) == (409, "to_refund")

    async def paid_back() -> dict[str, int]:
        return dict((await shop.state())["paid_back"])

    await eventually(paid_back, lambda seen: again["payment"] in seen)
    assert paid["payment"] not in await paid_back()


async def test_a_refunded_unit_is_sold_again(shop: ShopDoor) -> None:
    """Paid, refunded, and on sale for the next buyer."""
    before = (await shop.post("/sale"))[1]["remaining"]
    _, bought = await shop.post("/buy", token=await log_in(shop))
    await shop.order_is(bought["order"], "created")
    await shop.post("/pay", order=bought["order"])
    await shop.order_is(bought["order"], "paid")
    assert (await shop.post("/refund", order=bought["order"]))[0] == 200
    await shop.order_is(bought["order"], "refunded")

    async def remaining() -> int:
        return int((await shop.post("/sale"))[1]["remaining"])

    await eventually(remaining, lambda units: units == before)


async def test_nobody_else_is_believed(shop: ShopDoor, tmp_path: Path) -> None:
    """Neither tokens of another issuer at the gateway, nor webhooks without a signature."""
    await shop.post("/sale")
    stranger = Identity(tmp_path / "stranger.pem").token(new_id("buyer"))
    status, answer = await shop.post("/buy", token=stranger)
    assert (status, answer["error"]) == (503, "IDENTITY_INVALID")
    assert await shop.hook_status(b'{"type": "seckill.order.paid.v1", "data": {}}') == 401
