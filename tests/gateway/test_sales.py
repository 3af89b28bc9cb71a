"""What the gateway may say by itself about a sale, and what it must ask."""

import asyncio
import time
from typing import Any, cast

import grpc
import pytest

from gateway.sales import UNTOLD_EVERY_S, Sales
from seckill.errors import SaleNotFound
from seckill.runtime.sale_view import CLOCK_SKEW_S, SaleView
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.kits.factories import sale_terms

OPEN, PAUSED = sale_pb2.SALE_STATE_OPEN, sale_pb2.SALE_STATE_PAUSED
CLOSED = sale_pb2.SALE_STATE_CLOSED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT


def sale(
    *, remaining: int = 10, state: sale_pb2.SaleState.ValueType = OPEN, loaded: bool = True
) -> sale_pb2.Sale:
    """A sale of 10 units that started a second ago and goes on for an hour."""
    return sale_pb2.Sale(
        terms=sale_terms(sku="sku", units=10, starts_in_s=-1),
        state=state,
        remaining_units=remaining,
        sold_out=remaining == 0,
        loaded=loaded,
    )


def view(
    *, remaining: int = 10, state: sale_pb2.SaleState.ValueType = OPEN, loaded: bool = True
) -> SaleView:
    """What the gateway makes of it."""
    return SaleView.of(sale(remaining=remaining, state=state, loaded=loaded))


@pytest.mark.parametrize(
    ("sale_view", "after_start_s", "outcome"),
    [
        (view(), 1.0, None),
        (view(remaining=0), 1.0, SOLD_OUT),
        (view(state=PAUSED), 1.0, inventory_pb2.PURCHASE_OUTCOME_PAUSED),
        (view(state=CLOSED), 1.0, inventory_pb2.PURCHASE_OUTCOME_ENDED),
        (view(), -2 * CLOCK_SKEW_S, inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED),
        (view(), -0.5 * CLOCK_SKEW_S, None),
        (view(), 3601 + 2 * CLOCK_SKEW_S, inventory_pb2.PURCHASE_OUTCOME_ENDED),
        (view(), 3601 + 0.5 * CLOCK_SKEW_S, None),
        (view(remaining=0, loaded=False), 1.0, None),
        (view(remaining=0, loaded=False, state=CLOSED), 1.0, inventory_pb2.PURCHASE_OUTCOME_ENDED),
    ],
)
def test_what_the_flags_say(sale_view: SaleView, after_start_s: float, outcome: int | None) -> None:
    """Near the edges of the window, and while nothing is loaded, inventory decides."""
    assert sale_view.refusal(sale_view.start_s + after_start_s) == outcome


def test_a_lost_sale_is_not_held_against_its_buyers() -> None:
    """Redis has lost the terms too: any quantity must get through, to be told SALE_NOT_LOADED."""
    lost = SaleView.of(sale_pb2.Sale(terms=sale_pb2.SaleTerms(sku="sku")))
    assert lost.limit >= 1_000
    assert view().limit == 1


async def nothing_known(_sku: str) -> None:
    """What may come back is not known."""


class Told:
    """A gateway's knowledge of sales, without a stream."""

    def __init__(self) -> None:
        stub = inventory_pb2_grpc.InventoryServiceStub(grpc.insecure_channel("127.0.0.1:1"))
        self.sales = Sales(
            stub,  # type: ignore[arg-type]
            cache_ttl_s=5.0,
            lookups_max=1,
            read_unpaid=nothing_known,
        )

    def hear(self, *, remaining: int, holders: list[str] | None, complete: bool = False) -> None:
        """A message of the stream."""
        message = inventory_pb2.WatchSalesResponse(
            sales=[sale(remaining=remaining)], complete=complete
        )
        if holders is not None:
            message.holders.add(sku="sku", user_ids=holders)
        self.sales.apply(message)

    def holders(self) -> set[str] | None:
        """Who is known to hold units."""
        view = self.sales.get("sku")
        assert view is not None
        return view.holders


def test_holders_belong_to_the_snapshot_they_came_with() -> None:
    """Sold out, restocked, sold out again: each time the old names mean nothing any more."""
    told = Told()
    told.hear(remaining=0, holders=["ann"], complete=True)
    assert told.holders() == {"ann"}
    told.hear(remaining=1, holders=None)
    assert told.holders() is None
    told.hear(remaining=0, holders=["ann", "bob"])
    assert told.holders() == {"ann", "bob"}


def test_a_buyer_who_was_just_told_of_his_hold_is_a_holder() -> None:
    """Before the stream says so; while the sale sells it does not matter."""
    told = Told()
    told.hear(remaining=1, holders=None, complete=True)
    told.sales.note_holder("sku", "ann")
    assert told.holders() is None
    told.hear(remaining=0, holders=[])
    told.sales.note_holder("sku", "ann")
    assert told.holders() == {"ann"}


class ArchivingInventory:
    """Knows one archived sale, and notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, **_: object
    ) -> inventory_pb2.GetSaleResponse:
        """The archived sale, or NOT_FOUND."""
        self.asked.append(request.sku)
        if request.sku != "archived":
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata()
            )
        terms = sale_pb2.SaleTerms(sku="archived")
        return inventory_pb2.GetSaleResponse(sale=sale_pb2.Sale(terms=terms, state=CLOSED))


async def test_an_archived_sale_is_asked_for_and_invented_skus_hardly() -> None:
    """The stream does not tell of archived sales. Of a crowd that invents skus one in a while is
    asked for, the others are told that there are none; afterwards the archived one is found.
    """
    inventory = ArchivingInventory()
    sales = Sales(
        cast("Any", inventory), cache_ttl_s=5.0, lookups_max=64, read_unpaid=nothing_known
    )
    sales.apply(inventory_pb2.WatchSalesResponse(complete=True))
    started_s = time.monotonic()
    answers = await asyncio.gather(
        *(sales.find(f"invented-{number}") for number in range(50)), return_exceptions=True
    )
    took_s = time.monotonic() - started_s
    assert {type(answer) for answer in answers} == {SaleNotFound}
    assert 1 <= len(inventory.asked) <= 1 + took_s / UNTOLD_EVERY_S
    await sales.find("archived")
    found = sales.get("archived")
    assert found is not None
    assert found.refusal(0.0) == inventory_pb2.PURCHASE_OUTCOME_ENDED
    assert found.holders == set()
