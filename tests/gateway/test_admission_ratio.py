"""Attempts under way at once: no more than a multiple of what remains, and never none."""

import asyncio
from collections import deque
from typing import Any, cast

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission_ratio import AdmissionRatio
from gateway.hoarding import admission_multiple
from gateway.hoarding_settings import HoardingSettings
from gateway.reservations import Attempt, Reservations
from gateway.rules import GateRules, SalePolicy
from gateway.rules_feed import RulesFeed
from gateway.sales import Sales
from seckill.errors import AdmissionFull
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.gateway.test_batches import NotedCall
from tests.kits.factories import new_id, sale_terms

SKU = "sku"
BATCH = 4
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT

Reply = inventory_pb2.BatchReserveResponse


class HeldInventory:
    """Sells units; each batch is answered, or fails, when the test says so."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.waiting: deque[tuple[inventory_pb2.BatchReserveRequest, asyncio.Future[Reply]]] = (
            deque()
        )

    async def BatchReserve(
        self,
        request: inventory_pb2.BatchReserveRequest,
        timeout: float,  # noqa: ASYNC109 - the contract of gRPC
    ) -> Reply:
        del timeout
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.waiting.append((request, reply))
        return await reply

    def answer(self) -> None:
        """Answer the batch that has waited longest."""
        request, reply = self.waiting.popleft()
        response = inventory_pb2.BatchReserveResponse()
        for _ in request.items:
            outcome = RESERVED if self.units else SOLD_OUT
            self.units -= outcome == RESERVED
            number = "0" * 26 if outcome == RESERVED else ""
            response.results.add(outcome=outcome, order_no=number)
        response.remaining_units = self.units
        reply.set_result(response)

    def fail(self) -> None:
        """Let the batch that has waited longest fail."""
        self.waiting.popleft()[1].set_exception(RuntimeError("injected"))


async def nothing_known(_sku: str) -> None:
    """What may come back is not known."""


class Rig:
    """Reservations before an inventory that waits."""

    def __init__(self, *, units: int, multiple: float) -> None:
        self.inventory = HeldInventory(units)
        stub = inventory_pb2_grpc.InventoryServiceStub(grpc.insecure_channel("127.0.0.1:1"))
        self.sales = Sales(
            stub,  # type: ignore[arg-type]
            cache_ttl_s=5.0,
            lookups_max=1,
            read_unpaid=nothing_known,
        )
        self.told(units)
        self.reservations = Reservations(
            cast("Any", self.inventory).BatchReserve,
            self.sales,
            ratio=AdmissionRatio(remaining=self.sales.remaining, multiple=lambda _: multiple),
            batch_max=BATCH,
            in_flight_max=2,
            waiting_max=10_000,
            timeout_s=10.0,
        )
        self.calls: list[NotedCall] = []

    def told(self, units: int) -> None:
        """Inventory tells by its stream what remains."""
        sale = sale_pb2.Sale(
            terms=sale_terms(sku=SKU), remaining_units=units, sold_out=not units, loaded=True
        )
        self.sales.apply(inventory_pb2.WatchSalesResponse(sales=[sale], complete=True))

    @property
    def under_way(self) -> int:
        """Attempts let through and not answered."""
        return sum(not call.answered.is_set() for call in self.calls)

    def attempt(self, user_id: str = "") -> bool:
        """Make one attempt; return whether it was let through."""
        call = NotedCall()
        attempt = Attempt(
            call, user_id=user_id or new_id("buyer"), request_id="request", quantity=1
        )
        try:
            self.reservations.add(SKU, attempt)
        except AdmissionFull:
            return False
        self.calls.append(call)
        return True

    async def turn(self) -> None:
        """Send what waits, and let all that is ready happen."""
        self.reservations.flush()
        for _ in range(10):
            await asyncio.sleep(0)

    async def drain(self) -> None:
        """Answer everything."""
        await self.turn()
        while self.inventory.waiting:
            self.inventory.answer()
            await self.turn()


acts = st.lists(
    st.one_of(
        st.tuples(st.just("attempts"), st.integers(1, 12)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("answer"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("return"), st.integers(1, 3)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(units=st.integers(0, 6), multiple=st.sampled_from([0.5, 1.0, 2.0, 5.0]), acts=acts)
def test_what_is_under_way_is_bounded_and_never_kept_from_the_last_units(
    units: int, multiple: float, acts: list[tuple[str, int]]
) -> None:
    """Whatever is answered, fails, is given up or comes back; in the end every unit is sold."""
    asyncio.run(_play(units, multiple, acts))


async def _play(units: int, multiple: float, acts: list[tuple[str, int]]) -> None:
    rig = Rig(units=units, multiple=multiple)
    for act, count in acts:
        if act == "attempts":
            for _ in range(count):
                _attempt(rig, multiple)
        elif act == "leave":
            for call in rig.calls[-count:] if count else []:
                call.cancelled = True
                call.answered.set()
        elif act == "return":
            rig.inventory.units += count
            rig.told(rig.inventory.units)
        elif rig.inventory.waiting:
            rig.inventory.answer() if act == "answer" else rig.inventory.fail()
        await rig.turn()
    await rig.drain()
    assert rig.under_way == 0
    while rig.inventory.units:
        assert rig.attempt(), "starved"
        await rig.drain()


def _attempt(rig: Rig, multiple: float) -> None:
    """Make an attempt; whether it is let through must agree with what is under way."""
    before = rig.under_way
    remaining = rig.sales.remaining(SKU)
    assert remaining is not None
    if rig.attempt():
        assert rig.under_way <= max(BATCH, multiple * remaining + 1)
    else:
        # Those whose callers have left are counted until their batch is made up.
        assert before >= BATCH or any(call.cancelled for call in rig.calls)


async def test_a_buyer_who_was_told_a_number_is_told_it_again_while_others_wait() -> None:
    """Their repeat is let through beside as many attempts as there may be."""
    rig = Rig(units=3, multiple=2.0)
    assert rig.attempt("ann")
    await rig.drain()
    while rig.attempt():
        pass
    assert not rig.attempt("bob")
    assert rig.attempt("ann")
    await rig.drain()


async def test_an_inventory_that_does_not_count_leaves_what_the_stream_said() -> None:
    """A replica of the release before says nothing of what remains."""
    rig = Rig(units=3, multiple=2.0)
    assert rig.attempt()
    await rig.turn()
    request, reply = rig.inventory.waiting.popleft()
    response = inventory_pb2.BatchReserveResponse()
    response.results.add(outcome=SOLD_OUT)
    assert len(request.items) == 1
    reply.set_result(response)
    await rig.turn()
    assert rig.sales.remaining(SKU) == 3


@pytest.mark.parametrize(("policy", "setting", "multiple"), [(0.0, 7.0, 7.0), (2.5, 7.0, 2.5)])
def test_a_sale_has_its_own_multiple(policy: float, setting: float, multiple: float) -> None:
    """What its policy says, as long as it says something; at the next attempt."""
    feed = RulesFeed(cast("Any", None))
    of = admission_multiple(HoardingSettings(gateway_admission_multiple=setting), feed)
    assert of(SKU) == setting
    feed.rules = GateRules(policies={SKU: SalePolicy(admission_multiple=policy)})
    assert of(SKU) == multiple
    assert of("other") == setting


async def test_no_multiple_is_no_limit() -> None:
    """0 lets all through."""
    rig = Rig(units=1, multiple=0.0)
    assert all(rig.attempt() for _ in range(100))
    await rig.drain()
