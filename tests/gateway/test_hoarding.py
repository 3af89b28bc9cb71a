"""What the gateway asks of buyers' orders and tells of where orders came from."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from gateway.buyer_histories import BATCH_MAX, BuyerHistories, BuyerHistory
from gateway.keyed_hashes import KeyedHashes, parse_key
from gateway.sightings import WAITING_MAX, Sightings
from gateway.unpaid_cap import UnpaidCap
from seckill.errors import DependencyUnavailable, TooManyUnpaid
from seckill.runtime.server import FaultsAndMetrics
from seckill.v1 import hoarding_pb2, hoarding_pb2_grpc
from tests.kits.waiting import Signal

ORDER_NO = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
KEY = bytes(range(32))
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Orders(hoarding_pb2_grpc.BuyerHistoryServiceServicer):
    """BuyerHistoryService in memory, behind a real gRPC server."""

    histories: dict[str, hoarding_pb2.BuyerHistory] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    sightings: list[hoarding_pb2.OrderSighting] = field(default_factory=list)
    # Calls that fail before one succeeds.
    failures: int = 0
    changed: Signal = field(default_factory=Signal)

    async def BatchGetBuyerHistories(
        self, request: hoarding_pb2.BatchGetBuyerHistoriesRequest, _context: Context
    ) -> hoarding_pb2.BatchGetBuyerHistoriesResponse:
        self._fail()
        self.batches.append(len(request.buyers))
        nothing = hoarding_pb2.BuyerHistory()
        return hoarding_pb2.BatchGetBuyerHistoriesResponse(
            histories=[self.histories.get(buyer.user_id, nothing) for buyer in request.buyers]
        )

    async def RecordSightings(
        self, request: hoarding_pb2.RecordSightingsRequest, _context: Context
    ) -> hoarding_pb2.RecordSightingsResponse:
        self._fail()
        self.sightings += request.sightings
        self.changed.notify()
        return hoarding_pb2.RecordSightingsResponse(recorded_count=len(request.sightings))

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("injected")


@asynccontextmanager
async def serving(orders: Orders) -> AsyncIterator[Any]:
    """Serve it; the context is a stub."""
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()])
    hoarding_pb2_grpc.add_BuyerHistoryServiceServicer_to_server(orders, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield hoarding_pb2_grpc.BuyerHistoryServiceStub(channel)
    finally:
        await server.stop(None)


@pytest.fixture
def orders() -> Orders:
    """What is behind the gateway."""
    return Orders()


@pytest.fixture
async def stub(orders: Orders) -> AsyncIterator[Any]:
    """A stub of it."""
    async with serving(orders) as opened:
        yield opened


def histories_of(stub: Any, *, kept_s: float = 60.0) -> BuyerHistories:
    """What asks."""
    return BuyerHistories(stub, window_s=3_600.0, kept_s=kept_s, timeout_s=5.0)


async def test_a_question_that_comes_as_the_last_sender_ends_is_sent(
    orders: Orders, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds all senders in flight, and none of them looks at the queue again."""
    monkeypatch.setattr("gateway.buyer_histories.IN_FLIGHT_MAX", 1)
    asked: list[asyncio.Task[BuyerHistory]] = []

    class Late:
        """The same stub; another buyer comes in the turn in which the first answer is there."""

        async def BatchGetBuyerHistories(self, request: Any, **options: float) -> Any:
            answer = await stub.BatchGetBuyerHistories(request, **options)
            if not asked:
                asked.append(asyncio.create_task(histories.get("second")))
            return answer

    histories = histories_of(Late())
    await histories.get("first")
    async with asyncio.timeout(5):
        await asked[0]
    assert orders.batches == [1, 1]


def counted(name: str) -> float:
    """A counter's value."""
    return REGISTRY.get_sample_value(name) or 0.0


async def test_a_crowd_is_asked_about_in_few_calls_and_once(orders: Orders, stub: Any) -> None:
    """2,000 at once, each twice: batches, each buyer in one; then nobody is asked for a while."""
    histories = histories_of(stub)
    users = [f"user-{number}" for number in range(2_000)]
    orders.histories["user-7"] = hoarding_pb2.BuyerHistory(
        pending_orders=1, unpaid_orders=2, paid_orders=3, fingerprint_pending_orders=4
    )
    answers = await asyncio.gather(*map(histories.get, [*users, *users]))
    assert answers[7] == answers[2_007] == BuyerHistory(1, 2, 3, 4)
    assert answers[8] == BuyerHistory()
    assert sum(orders.batches) == 2_000
    assert max(orders.batches) <= BATCH_MAX
    assert len(orders.batches) <= 6
    assert await histories.get("user-7") == BuyerHistory(1, 2, 3, 4)
    assert sum(orders.batches) == 2_000


async def test_what_is_known_grows_old(orders: Orders, stub: Any) -> None:
    """A buyer who has paid meanwhile is seen to have."""
    histories = histories_of(stub, kept_s=0.0)
    orders.histories["ann"] = hoarding_pb2.BuyerHistory(pending_orders=1)
    assert (await histories.get("ann")).pending == 1
    orders.histories["ann"] = hoarding_pb2.BuyerHistory(paid_orders=1)
    assert await histories.get("ann") == BuyerHistory(paid=1)


async def test_a_failed_batch_fails_those_who_asked_and_no_others(
    orders: Orders, stub: Any
) -> None:
    """The next question is asked again; one caller's cancellation is not the others'."""
    histories = histories_of(stub)
    orders.failures = 1
    results = await asyncio.gather(
        histories.get("ann"), histories.get("bob"), return_exceptions=True
    )
    assert [getattr(result, "code", result) for result in results] == [UNAVAILABLE] * 2
    first, second = (asyncio.create_task(histories.get("ann")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == BuyerHistory()


@pytest.mark.parametrize(
    ("told", "orders_max", "whose"),
    [
        ({"pending_orders": 2}, 3, ""),
        ({"pending_orders": 3}, 3, "user"),
        ({"fingerprint_pending_orders": 3}, 3, "fingerprint"),
        ({"pending_orders": 50}, 0, ""),
        ({"unpaid_orders": 50, "paid_orders": 50}, 1, ""),
    ],
)
async def test_the_cap_counts_what_awaits_payment(
    orders: Orders, stub: Any, told: dict[str, int], orders_max: int, whose: str
) -> None:
    """Of the user, and of their card; at the cap there is no further one; 0 is no cap."""
    orders.histories["ann"] = hoarding_pb2.BuyerHistory(**told)
    cap = UnpaidCap(histories_of(stub), KeyedHashes(KEY), orders_max=lambda: orders_max)
    assert cap.on is bool(orders_max)
    if not whose:
        await cap.check("ann", b"card")
        return
    with pytest.raises(TooManyUnpaid) as refused:
        await cap.check("ann", b"card")
    assert refused.value.metadata == {"whose": whose, "orders_max": str(orders_max)}


async def test_the_cap_does_not_stop_sales_without_the_order_service(
    orders: Orders, stub: Any
) -> None:
    """Buyers of whom nothing can be known pass, and are counted."""
    orders.failures = 1
    before = counted("seckill_unpaid_cap_unknown_total")
    await UnpaidCap(histories_of(stub), KeyedHashes(b""), orders_max=lambda: 1).check("ann", None)
    assert counted("seckill_unpaid_cap_unknown_total") == before + 1


async def test_sightings_are_told_together_and_again_if_they_were_lost(
    orders: Orders, stub: Any
) -> None:
    """Within moments; an order of which nothing is known is not told of."""
    sightings = Sightings(stub)
    sender = asyncio.create_task(sightings.run())
    try:
        orders.failures = 1
        sightings.note(ORDER_NO, address=b"a" * 16, fingerprint=b"")
        sightings.note(ORDER_NO, address=b"", fingerprint=b"")
        (told,) = await orders.changed.until(lambda: orders.sightings)
        assert (told.order_no, told.address, told.fingerprint) == (ORDER_NO, b"a" * 16, b"")
    finally:
        sender.cancel()


def test_sightings_that_cannot_be_told_are_dropped_and_counted() -> None:
    """There is a bound on those that wait."""
    sightings = Sightings(None)  # type: ignore[arg-type]
    before = counted("seckill_sightings_dropped_total")
    for _ in range(WAITING_MAX + 3):
        sightings.note(ORDER_NO, address=b"a" * 16, fingerprint=b"")
    assert counted("seckill_sightings_dropped_total") == before + 3


def test_hashes_need_the_key_and_tell_nothing_without_one() -> None:
    """The same for all gateways with it; addresses and fingerprints are apart; else nothing."""
    ours, same, other = KeyedHashes(KEY), KeyedHashes(KEY), KeyedHashes(KEY[::-1])
    assert ours.address("192.0.2.1") == same.address("192.0.2.1")
    assert len(ours.address("192.0.2.1")) == 16
    assert ours.address("192.0.2.1") != other.address("192.0.2.1")
    assert ours.address("192.0.2.1") != ours.fingerprint(b"192.0.2.1")
    assert ours.address("") == ours.fingerprint(None) == b""
    assert KeyedHashes(b"").address("192.0.2.1") == b""


@pytest.mark.parametrize(
    ("text", "production", "problem"),
    [
        ("?", False, "base64"),
        (base64.b64encode(b"short").decode(), False, "32 to 64 bytes"),
        (base64.b64encode(b"x" * 65).decode(), False, "32 to 64 bytes"),
        (base64.b64encode(b"x" * 32).decode(), True, "repeats itself"),
    ],
)
def test_a_bad_key_is_refused(text: str, production: bool, problem: str) -> None:
    """What it says of it names what is wrong."""
    with pytest.raises(ValueError, match=problem):
        parse_key(text, production=production)
    assert parse_key("", production=True) == b""
    assert parse_key(base64.b64encode(KEY).decode(), production=True) == KEY
