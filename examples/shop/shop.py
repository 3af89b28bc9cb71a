"""A small shop that sells one sale through the mesh: `python -m examples.shop.shop`.

It has what any shop has to bring: identities of its own, a sale, an ear for signed webhooks, and
payments and refunds that it states. What a real one keeps in its database is in memory here.
docs/integrate.md walks through it.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from standardwebhooks import Webhook, WebhookVerificationError

from examples.shop.identity import Identity, key_path
from seckill.client import CallFailed, SeckillClient
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_admin_pb2,
    order_admin_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    sale_pb2,
)

PROVIDER = "shop-psp"
SKU = "lamp"
UNITS = 10
PRICE = sale_pb2.Money(currency="EUR", minor_units=1_990)
PAYMENT_WINDOW_S = 900
CALL_S = 10.0


@dataclass
class Till:
    """The payment provider of this example: it takes money and pays it back, by id."""

    taken: dict[str, int] = field(default_factory=dict)
    paid_back: dict[str, int] = field(default_factory=dict)

    def take(self, minor_units: int) -> str:
        """Take money, and return the payment's id."""
        payment_id = f"pay-{uuid.uuid4().hex}"
        self.taken[payment_id] = minor_units
        return payment_id

    def pay_back(self, payment_id: str) -> str:
        """Pay a payment back, once however often it is asked to; return the refund's id."""
        self.paid_back[payment_id] = self.taken[payment_id]
        return f"refund-{payment_id}"


def own_credentials() -> grpc.ChannelCredentials | None:
    """What the shop's certificate proves in a mesh with mTLS; None for one in clear."""
    names = [os.environ.get(f"SHOP_TLS_{name}", "") for name in ("CA", "KEY", "CERT")]
    if not all(names):
        return None
    return grpc.ssl_channel_credentials(*(Path(name).read_bytes() for name in names))


def channel_to(address: str) -> grpc.aio.Channel:
    """Return a channel to a service of the mesh."""
    credentials = own_credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, credentials)


class Shop:
    """The handlers of the shop, and what it knows."""

    def __init__(self, identity: Identity, *, webhook_secret: str) -> None:
        self._identity = identity
        self._webhook = Webhook(webhook_secret)
        self.till = Till()
        # Order number → what the mesh said of it last.
        self.orders: dict[str, str] = {}
        # Order number → the payment that has paid it.
        self.payments: dict[str, str] = {}
        # Deliveries repeat: what was seen is acknowledged, and not done again.
        self._seen: set[str] = set()

    async def connect(self, _: web.Application) -> AsyncIterator[None]:
        """Hold the connections to the mesh while the shop runs."""
        gateway = os.environ.get("SHOP_GATEWAY", "127.0.0.1:50051")
        inventory = os.environ.get("SHOP_INVENTORY", "127.0.0.1:50052")
        order = os.environ.get("SHOP_ORDER", "127.0.0.1:50053")
        async with (
            SeckillClient(gateway, credentials=own_credentials()) as self._client,
            channel_to(inventory) as to_inventory,
            channel_to(order) as to_order,
        ):
            self._inventory = inventory_pb2_grpc.InventoryServiceStub(to_inventory)
            self._orders = order_pb2_grpc.OrderServiceStub(to_order)
            self._admin = order_admin_pb2_grpc.OrderAdminServiceStub(to_order)
            yield

    async def jwks(self, _: web.Request) -> web.Response:
        """GET /.well-known/jwks.json: who may sign identities."""
        return web.json_response(self._identity.jwks())

    async def log_in(self, request: web.Request) -> web.Response:
        """POST /login: in a real shop after a password. A page takes the token to the edge."""
        name = (await request.json())["name"]
        return web.json_response({"token": self._identity.token(name)})

    async def open_sale(self, _: web.Request) -> web.Response:
        """POST /sale: repeating it with the same terms changes nothing."""
        end = Timestamp()
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        end.FromDatetime(today + timedelta(days=2))
        terms = sale_pb2.SaleTerms(
            sku=SKU,
            title="A lamp",
            total_units=UNITS,
            unit_price=PRICE,
            purchase_limit=1,
            end_time=end,
            payment_window=Duration(seconds=PAYMENT_WINDOW_S),
        )
        answer = await self._inventory.CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms),
            metadata=self._as("shop", "operator"),
            timeout=CALL_S,
        )
        return web.json_response({"sku": SKU, "remaining": answer.sale.remaining_units})

    async def buy(self, request: web.Request) -> web.Response:
        """POST /buy: for a buyer whose token is in the request."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        buyer = self._client.acting_for(token)
        try:
            purchase = await buyer.buy(SKU)
        except CallFailed as failure:
            return web.json_response({"error": failure.reason}, status=503)
        return web.json_response({"outcome": purchase.outcome.name, "order": purchase.order_no})

    async def pay(self, request: web.Request) -> web.Response:
        """POST /pay: take the money, then state it; a buyer who pays too late gets it back."""
        order_no = (await request.json())["order"]
        if order_no not in self.orders:
            # Reserved, and not written yet: the webhook comes within a second.
            return web.json_response({"error": "no such order yet"}, status=404)
        payment_id = self.till.take(PRICE.minor_units)
        statement = order_pb2.ConfirmPaymentRequest(
            order_no=order_no, provider=PROVIDER, payment_id=payment_id, amount=PRICE
        )
        try:
            await self._orders.ConfirmPayment(
                statement, metadata=self._as("shop", "service"), timeout=CALL_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                # Nobody knows: state the same payment again, until there is an answer.
                return web.json_response({"payment": payment_id, "state": "unknown"}, status=503)
            # On record as to be refunded; the webhook says so, too.
            return web.json_response({"payment": payment_id, "state": "to_refund"}, status=409)
        self.payments[order_no] = payment_id
        return web.json_response({"payment": payment_id, "state": "applied"})

    async def refund(self, request: web.Request) -> web.Response:
        """POST /refund: pay a paid order back, then say so; its unit is sold again."""
        order_no = (await request.json())["order"]
        refund_id = self.till.pay_back(self.payments[order_no])
        await self._orders.RefundOrder(
            order_pb2.RefundOrderRequest(order_no=order_no, refund_id=refund_id, restock=True),
            metadata=self._as("shop", "operator"),
            timeout=CALL_S,
        )
        return web.json_response({"refund": refund_id})

    async def hear(self, request: web.Request) -> web.Response:
        """POST /hooks/orders: what became of orders, signed by the mesh."""
        body = await request.read()
        try:
            event = self._webhook.verify(body, dict(request.headers))
        except WebhookVerificationError:
            return web.Response(status=401)
        delivery = request.headers["webhook-id"]
        if delivery not in self._seen:
            await self._act(event["type"].split(".")[2], event["data"])
            # Only now: a delivery whose work failed comes again.
            self._seen.add(delivery)
        return web.Response(status=204)

    async def _act(self, kind: str, data: dict[str, dict[str, str]]) -> None:
        if kind in ("payment_to_refund", "payment_too_late"):
            await self._settle(data["paymentToRefund"]["paymentId"])
        elif kind != "sale_changed":
            self.orders[data["order"]["orderNo"]] = kind

    async def _settle(self, payment_id: str) -> None:
        """Pay a payment back that paid nothing, and say so."""
        refund_id = self.till.pay_back(payment_id)
        await self._admin.SettlePayment(
            order_admin_pb2.SettlePaymentRequest(
                provider=PROVIDER, payment_id=payment_id, refund_id=refund_id
            ),
            metadata=self._as("shop", "operator"),
            timeout=CALL_S,
        )

    async def show(self, _: web.Request) -> web.Response:
        """GET /state: what the shop knows."""
        till = {"taken": self.till.taken, "paid_back": self.till.paid_back}
        return web.json_response({"orders": self.orders, **till})

    def _as(self, name: str, role: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._identity.token(name, role)}"),)


def build(shop: Shop) -> web.Application:
    """Return the shop as a web application."""
    app = web.Application()
    app.cleanup_ctx.append(shop.connect)
    app.add_routes(
        [
            web.get("/.well-known/jwks.json", shop.jwks),
            web.post("/login", shop.log_in),
            web.post("/sale", shop.open_sale),
            web.post("/buy", shop.buy),
            web.post("/pay", shop.pay),
            web.post("/refund", shop.refund),
            web.post("/hooks/orders", shop.hear),
            web.get("/state", shop.show),
        ]
    )
    return app


async def serve() -> None:
    """Run the shop until the process ends."""
    shop = Shop(Identity(key_path()), webhook_secret=os.environ["SHOP_WEBHOOK_SECRET"])
    runner = web.AppRunner(build(shop))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ.get("SHOP_PORT", "8090"))).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
