"""Random interleavings of buying, returning and moving units between buckets, on a real Redis."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import TypeVar

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

from inventory_svc.buckets.standing import Standings
from seckill.runtime.bucket_tags import tags_of
from seckill.v1 import inventory_pb2 as pb
from tests.kits.buckets import BucketKit, Lent, buyer_at
from tests.kits.factories import sale_terms
from tests.kits.inventory import attempt

BUCKETS, LIMIT = 3, 4
HOMES = st.integers(0, BUCKETS - 1)
T = TypeVar("T")


class Replicas:
    """Two replicas on one Redis, and the loop that they run in."""

    def __init__(self, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self.kits = [self.run(self._open(redis_url)) for _ in range(2)]

    async def _open(self, redis_url: str) -> BucketKit:
        return BucketKit(redis_url)

    def run(self, work: Awaitable[T]) -> T:
        """Await it."""

        async def waiting() -> T:
            return await work

        return self._runner.run(waiting())

    def close(self) -> None:
        """Disconnect."""
        for kit in self.kits:
            self.run(kit.close())
        self._runner.close()


class BucketsMachine(RuleBasedStateMachine):
    """Steps of transfers come in any order, late, twice or never; buyers come in between."""

    replicas: Replicas  # set by the test

    @initialize(units=st.integers(1, 12))
    def start(self, units: int) -> None:
        self.kit, self.other = self.replicas.kits
        self.total = units
        terms = sale_terms(units=units, limit=LIMIT)
        self.sku = self.replicas.run(self.kit.load(terms, buckets=BUCKETS))
        self.tags = tags_of(self.sku, BUCKETS)
        # (Buyer, order's number, units) of live holds.
        self.held: list[tuple[str, str, int]] = []
        # (Lender, borrower, transfer) of which some replica knows, settled or not.
        self.known: list[tuple[int, int, Lent]] = []

    @property
    def free(self) -> int:
        return self.total - sum(units for _, _, units in self.held)

    @rule(home=HOMES, quantity=st.integers(1, LIMIT), by_other=st.booleans())
    def buy(self, home: int, quantity: int, by_other: bool) -> None:
        """Whoever asks for as many units as are free gets them, wherever they are."""
        buyer = buyer_at(home, BUCKETS)
        kit = self.other if by_other else self.kit
        answers = self.replicas.run(kit.reserve(self.sku, attempt(buyer, quantity=quantity)))
        ((outcome, order_no),) = answers
        enough = quantity <= self.free
        assert outcome == (pb.PURCHASE_OUTCOME_RESERVED if enough else pb.PURCHASE_OUTCOME_SOLD_OUT)
        if enough:
            self.held.append((buyer, order_no, quantity))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), twice=st.booleans())
    def give_back(self, data: st.DataObject, twice: bool) -> None:
        """Units come back once."""
        one = data.draw(st.sampled_from(self.held))
        self.held.remove(one)
        buyer, order_no, units = one
        assert self.replicas.run(self.kit.release(self.sku, (order_no, buyer))) == [units]
        if twice:
            assert self.replicas.run(self.other.release(self.sku, (order_no, buyer))) == [0]

    @rule(lender=HOMES, borrower=HOMES)
    def lend(self, lender: int, borrower: int) -> None:
        """A replica starts a transfer, and stops."""
        if lender == borrower:
            return
        lent = self.replicas.run(self.kit.step_lend(self.tags, lender, borrower))
        if lent[1]:
            self.known.append((lender, borrower, lent))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), settles=st.booleans())
    def go_on(self, data: st.DataObject, settles: bool) -> None:
        """A replica goes on with a transfer that it knows of, however old that is."""
        lender, borrower, lent = data.draw(st.sampled_from(self.known))
        self.replicas.run(self.kit.step_take(self.tags, lender, borrower, lent))
        if settles:
            self.replicas.run(self.kit.step_settle(self.tags, lender, borrower, lent))

    @invariant()
    def units_are_conserved(self) -> None:
        """On sale, on their way, and held: as many as there are."""
        standing = self.replicas.run(Standings(self.kit.redis).read(self.tags))
        assert standing.units == self.free
        (sale,) = self.replicas.run(self.kit.sales.read([self.sku]))
        assert (sale.remaining_units, sale.sold_out) == (self.free, self.free == 0)

    def teardown(self) -> None:
        """No unit is stranded: buyers of one home get all that are left."""
        if not hasattr(self, "held"):
            return
        buyers = [attempt(buyer_at(1, BUCKETS)) for _ in range(self.free + 1)]
        answers = self.replicas.run(self.other.reserve(self.sku, *buyers))
        outcomes = [outcome for outcome, _ in answers]
        assert outcomes == [pb.PURCHASE_OUTCOME_RESERVED] * self.free + [
            pb.PURCHASE_OUTCOME_SOLD_OUT
        ]


@pytest.fixture
def replicas(redis_url: str) -> Iterator[Replicas]:
    """Two replicas."""
    opened = Replicas(redis_url)
    yield opened
    opened.close()


@pytest.mark.slow
def test_units_are_conserved_and_none_is_stranded(replicas: Replicas) -> None:
    """Whatever is left in the middle, comes late, or is repeated."""

    class Machine(BucketsMachine):
        pass

    Machine.replicas = replicas
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
