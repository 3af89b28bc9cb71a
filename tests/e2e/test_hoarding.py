"""Against hoarding, through the whole mesh: the cap, clean history, and voids."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest

from seckill.status import reason_of
from seckill.v1 import (
    gate_pb2,
    gate_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    hoarding_pb2,
    hoarding_pb2_grpc,
    inventory_pb2,
    order_pb2,
)
from tests.kits.actions import CALL_S, Gateway, open_sale
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.gateway import details
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT


@dataclass
class Person:
    """A buyer, their card, and from where they come."""

    gateway: Gateway
    mesh: Mesh
    card: str = ""
    address: str = "192.0.2.1"
    user: str = field(default_factory=lambda: new_id("buyer"))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What their calls carry."""
        claims = {"card": self.card} if self.card else None
        token = self.mesh.issuer.token(self.user, more=claims)
        return (("authorization", f"Bearer {token}"), ("x-forwarded-for", self.address))

    async def token(self, sku: str) -> str:
        """Return a purchase token."""
        request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
        answer = await self.gateway.IssuePurchaseToken(
            request, metadata=self.metadata, timeout=CALL_S
        )
        return answer.purchase_token

    async def refusal(self, sku: str) -> str:
        """Return why there is no purchase token; "" if there is one."""
        try:
            await self.token(sku)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error) or error.code().name
            whose = details(error)["ErrorInfo"].metadata.get("whose", "")
            return f"{reason} {whose}".strip()
        return ""

    async def buy(self, sku: str) -> gateway_pb2.PurchaseResponse:
        """Make an attempt."""
        request = gateway_pb2.PurchaseRequest(
            sku=sku, purchase_token=await self.token(sku), request_id=f"request-{sku}"
        )
        return await self.gateway.Purchase(request, metadata=self.metadata, timeout=CALL_S)

    async def order(self, sku: str) -> str:
        """Buy; return the number of the order once the database has it."""
        answer = await self.buy(sku)
        assert answer.outcome == RESERVED
        await eventually(partial(self.is_in, answer.order_no, order_pb2.ORDER_STATE_PENDING))
        return answer.order_no

    async def is_in(self, order_no: str, state: int) -> bool:
        """Whether their order is known, and in this state."""
        request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=order_no)
        try:
            answer = await self.gateway.GetOrder(request, metadata=self.metadata, timeout=CALL_S)
        except grpc.aio.AioRpcError:
            return False
        return answer.order.state == state

    async def pay(self, order_no: str) -> None:
        """Pay an order."""
        request = gateway_pb2.GatewayServicePayOrderRequest(
            order_no=order_no, payment_id=new_id("payment"), amount=PRICE
        )
        await self.gateway.PayOrder(request, metadata=self.metadata, timeout=CALL_S)


@pytest.fixture
async def gateway(gate_mesh: Mesh) -> AsyncIterator[Gateway]:
    """A stub of the gateway."""
    async with gate_mesh.channel("gateway") as channel:
        yield gateway_pb2_grpc.GatewayServiceStub(channel)


@pytest.fixture
async def operator(gate_mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the order service."""
    async with gate_mesh.channel("order") as channel:
        yield channel


def by_operator(mesh: Mesh) -> tuple[tuple[str, str], ...]:
    """Metadata of an operator."""
    return (("authorization", f"Bearer {mesh.issuer.token('olga', roles=['operator'])}"),)


@asynccontextmanager
async def cap_of(
    orders_max: int, mesh: Mesh, channel: grpc.aio.Channel, probe: Person, sku: str
) -> AsyncIterator[None]:
    """Have a cap while it is open; `probe` has orders enough to feel it."""
    rules = gate_pb2_grpc.GateRulesServiceStub(channel)
    limit = gate_pb2.GateLimit(name="unpaid_orders_max", value=orders_max)
    metadata = by_operator(mesh)
    await rules.SetLimits(gate_pb2.SetLimitsRequest(limits=[limit]), metadata=metadata)
    try:
        await eventually(partial(probe.refusal, sku), bool)
        yield
    finally:
        request = gate_pb2.ResetLimitsRequest(names=["unpaid_orders_max"])
        await rules.ResetLimits(request, metadata=metadata)
        await eventually(partial(probe.refusal, sku), lambda refusal: not refusal)


async def sales_of(mesh: Mesh, count: int, **terms: Any) -> list[str]:
    """Open sales."""
    return [await open_sale(mesh, sale_terms(**terms)) for _ in range(count)]


async def test_unpaid_orders_are_capped_over_all_sales(
    gate_mesh: Mesh, gateway: Gateway, operator: grpc.aio.Channel
) -> None:
    """Two of a buyer, and two of a card that several buyers have; paying makes room."""
    skus = await sales_of(gate_mesh, 3)
    ann = Person(gateway, gate_mesh)
    first = await ann.order(skus[0])
    await ann.order(skus[1])
    assert await ann.refusal(skus[2]) == ""
    card = new_id("card")
    family = [Person(gateway, gate_mesh, card=card) for _ in range(3)]
    for person in family[:2]:
        await person.order(skus[0])
    async with cap_of(2, gate_mesh, operator, ann, skus[2]):
        assert await ann.refusal(skus[2]) == "TOO_MANY_UNPAID user"
        # From where orders came is told a moment later.
        await eventually(
            partial(family[2].refusal, skus[2]), lambda told: told == "TOO_MANY_UNPAID fingerprint"
        )
        assert await Person(gateway, gate_mesh, card=new_id("card")).refusal(skus[2]) == ""
        await ann.pay(first)
        await eventually(partial(ann.refusal, skus[2]), lambda told: not told)
        assert await ann.order(skus[2])
        await eventually(partial(ann.refusal, skus[2]), bool)


async def test_a_sale_can_ask_for_a_clean_history(
    gate_mesh: Mesh, gateway: Gateway, operator: grpc.aio.Channel
) -> None:
    """A buyer who let an order expire gets no token for it; one who did not does."""
    lapsed, wanted = (
        await open_sale(gate_mesh, sale_terms(payment_window_s=1.0)),
        await open_sale(gate_mesh, sale_terms()),
    )
    bob, ann = Person(gateway, gate_mesh), Person(gateway, gate_mesh)
    number = await bob.order(lapsed)
    await eventually(partial(bob.is_in, number, order_pb2.ORDER_STATE_CANCELLED))
    assert await bob.refusal(wanted) == ""
    policy = gate_pb2.SalePolicy(sku=wanted, require_clean_history=True)
    await gate_pb2_grpc.GateRulesServiceStub(operator).SetSalePolicy(
        gate_pb2.SetSalePolicyRequest(policy=policy), metadata=by_operator(gate_mesh)
    )
    await eventually(partial(bob.refusal, wanted), lambda told: told == "RISK_REFUSED")
    assert await ann.refusal(wanted) == ""
    # Of other sales nothing was said.
    assert await bob.refusal((await sales_of(gate_mesh, 1))[0]) == ""


async def test_units_of_hoarders_go_to_those_who_wait(
    gate_mesh: Mesh, gateway: Gateway, operator: grpc.aio.Channel
) -> None:
    """Clusters by address and card; after the void the next buyers get the units."""
    sku = await open_sale(gate_mesh, sale_terms(units=6))
    card = new_id("card")
    hoarders = [Person(gateway, gate_mesh, card=card, address=f"198.51.100.{n}") for n in range(3)]
    # One /64 of IPv6 is one customer.
    office = [Person(gateway, gate_mesh, address=f"2001:db8:1:2::{n + 1}") for n in range(3)]
    for person in (*hoarders, *office):
        assert (await person.buy(sku)).outcome == RESERVED
    waiting = [Person(gateway, gate_mesh) for _ in range(4)]
    assert (await waiting[0].buy(sku)).outcome == SOLD_OUT
    reviews = hoarding_pb2_grpc.SaleReviewServiceStub(operator)
    metadata = by_operator(gate_mesh)

    async def found() -> dict[int, hoarding_pb2.OrderCluster]:
        request = hoarding_pb2.ReviewSaleRequest(sku=sku)
        request.early.FromMilliseconds(1)
        answer = await reviews.ReviewSale(request, metadata=metadata)
        return {cluster.kind: cluster for cluster in answer.clusters}

    clusters = await eventually(found, lambda some: _sizes(some.values()) == [3, 3])
    by_card = clusters[hoarding_pb2.CLUSTER_KIND_FINGERPRINT]
    assert clusters[hoarding_pb2.CLUSTER_KIND_ADDRESS].user_count == 3
    assert card not in by_card.id
    void = hoarding_pb2.VoidOrdersRequest(sku=sku, cluster_ids=[by_card.id], reason="one card")
    answer = await reviews.VoidOrders(void, metadata=metadata)
    assert {one.user_id for one in answer.orders} == {person.user for person in hoarders}
    for person in waiting[:3]:
        await eventually(partial(person.buy, sku), lambda answer: answer.outcome == RESERVED)
    assert (await waiting[3].buy(sku)).outcome == SOLD_OUT


def _sizes(clusters: Iterable[hoarding_pb2.OrderCluster]) -> list[int]:
    return sorted(cluster.order_count for cluster in clusters)
