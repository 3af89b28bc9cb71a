"""Random sequences of buying, paying, expiring, cancelling and redelivering, against a model."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from seckill.v1 import inventory_pb2 as pb
from seckill.v1.events_pb2 import OrderReserved
from tests.kits.factories import PRICE, sale_terms
from tests.simulation.world import World

USERS = [f"user-{number}" for number in range(6)]
REQUESTS = [f"request-{number}" for number in range(3)]
LIMIT = 2


@dataclass
class Held:
    """The model of a hold: what the buyer has, or had."""

    order_no: str
    quantity: int
    live: bool = True


@dataclass
class Model:
    """What should be true."""

    stock: int
    rebuy: bool
    holds: dict[str, Held] = field(default_factory=dict)
    # (Buyer, request) → what it reserved. There are fewer requests than a buyer's are remembered.
    reserved: dict[tuple[str, str], Held] = field(default_factory=dict)
    # Order number → (buyer, quantity, state).
    orders: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    restored: set[str] = field(default_factory=set)

    def decide(self, user: str, request: str, quantity: int) -> tuple[int, str | None]:
        """Outcome, and the order number if it is an old one."""
        hold = self.holds.get(user)
        told = self.reserved.get((user, request))
        if told is not None:
            if told.quantity == quantity:
                return pb.PURCHASE_OUTCOME_RESERVED, told.order_no
            return pb.PURCHASE_OUTCOME_OTHER_QUANTITY, ""
        if hold is not None and hold.live:
            return pb.PURCHASE_OUTCOME_ALREADY_PURCHASED, hold.order_no
        if (hold is not None and not self.rebuy) or quantity > LIMIT:
            return pb.PURCHASE_OUTCOME_LIMIT_EXCEEDED, ""
        if quantity > self.stock:
            return pb.PURCHASE_OUTCOME_SOLD_OUT, ""
        return pb.PURCHASE_OUTCOME_RESERVED, None


class SaleMachine(RuleBasedStateMachine):
    """Drives a World and a Model side by side."""

    world: World  # set by the test

    @initialize(units=st.integers(1, 6), rebuy=st.booleans())
    def start(self, units: int, rebuy: bool) -> None:
        self.total = units
        self.model = Model(stock=units, rebuy=rebuy)
        self.sent: list[OrderReserved] = []
        self.world.open_sale(sale_terms(units=units, limit=LIMIT, rebuy_allowed=rebuy))

    @rule(
        user=st.sampled_from(USERS), request=st.sampled_from(REQUESTS), quantity=st.integers(1, 3)
    )
    def buy(self, user: str, request: str, quantity: int) -> None:
        # Request ids are of all sales of a buyer: those of other runs are other buyers.
        user = f"{user}-{self.world.sku}"
        outcome, known = self.model.decide(user, request, quantity)
        result = self.world.reserve(user_id=user, request_id=request, quantity=quantity)
        assert result.outcome == outcome
        if known is not None:
            assert result.order_no == known
            return
        held = self.model.holds[user] = Held(result.order_no, quantity)
        self.model.reserved[user, request] = held
        self.model.stock -= quantity

    @rule(count=st.integers(1, 4))
    def relay_and_consume(self, count: int) -> None:
        events = self.world.take_outbox(count)
        self.sent.extend(events)
        self._consume(events)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        again = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=5))
        self._consume(again)

    def _consume(self, events: list[OrderReserved]) -> None:
        self.world.deliver(events)
        for event in events:
            self.model.orders.setdefault(event.order_no, (event.user_id, event.quantity, "pending"))

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data(), payment=st.sampled_from(["a", "b"]))
    def pay(self, data: st.DataObject, payment: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.orders)))
        user, quantity, state = self.model.orders[number]
        told = self.world.pay(
            number,
            payment_id=f"{number}-{payment}",
            amount_minor=PRICE.minor_units * quantity,
        )
        if state == "pending":
            assert told == "ok"
            self.model.orders[number] = (user, quantity, f"paid-{payment}")
        elif state == f"paid-{payment}":
            assert told == "ok"
        elif state == "cancelled":
            assert told == "PaymentTooLate"
        else:
            assert told == "OrderStateConflict"

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.orders)))
        user, quantity, state = self.model.orders[number]
        told = self.world.cancel(number)
        assert told == ("OrderStateConflict" if state.startswith("paid") else "ok")
        if state == "pending":
            self.model.orders[number] = (user, quantity, "cancelled")

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.orders)))
        user, quantity, state = self.model.orders[number]
        self.world.expire(number)
        if state == "pending":
            self.model.orders[number] = (user, quantity, "cancelled")

    @rule(mark=st.booleans())
    def restore(self, mark: bool) -> None:
        expected = 0
        for number, (user, _, state) in self.model.orders.items():
            hold = self.model.holds[user]
            if state == "cancelled" and hold.order_no == number and hold.live:
                hold.live = False
                expected += hold.quantity
        self.model.stock += expected
        assert self.world.restore(mark=mark) == expected

    @invariant()
    def the_stores_agree_with_the_model(self) -> None:
        if not self.world.sku:
            return
        facts = self.world.facts()
        assert facts.stock == self.model.stock >= 0
        live = {hold.order_no: hold.quantity for hold in self.model.holds.values() if hold.live}
        assert facts.held == live
        assert facts.stock + sum(live.values()) == self.total
        states = {
            number: state.partition("-")[0] for number, (_, _, state) in self.model.orders.items()
        }
        assert facts.orders == states
        units = sum(
            quantity for _, quantity, state in self.model.orders.values() if state != "cancelled"
        )
        assert facts.sold == units <= self.total
        self._replay(facts.ledger)

    def _replay(self, ledger: list[tuple[str, str, int]]) -> None:
        """No prefix of the ledger has more units out than there are."""
        out = 0
        for kind, _, quantity in ledger:
            out += {"reserved": quantity, "cancelled": -quantity}.get(kind, 0)
            assert 0 <= out <= self.total


@pytest.fixture
def world(redis_url: str, database_dsn: str) -> Iterator[World]:
    """Real stores."""
    running = World(redis_url=redis_url, database_dsn=database_dsn)
    yield running
    running.close()


@pytest.mark.slow
def test_any_sequence_of_events_keeps_every_unit_accounted_for(world: World) -> None:
    """Whatever order things happen in, the stores are what the model says."""

    class Machine(SaleMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
