"""Both twins over a real connection, to a gateway that answers by script."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from devstack.certificates import load_or_create
from seckill.client import (
    Call,
    Outcome,
    OutcomeUnknown,
    Purchase,
    RetryPolicy,
    SeckillClient,
    SyncSeckillClient,
    TryLater,
)
from seckill.client.errors import PUSHBACK_KEY
from seckill.errors import RateLimited, SeckillError
from seckill.status import trailing_metadata
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, order_pb2
from seckill_cli.demo.buyer import Buyer

Context = grpc.aio.ServicerContext[Any, Any]
Buy = Callable[..., Awaitable[Purchase]]
QUICK = RetryPolicy(pause_min_s=0.01)


class Scripted(gateway_pb2_grpc.GatewayServiceServicer):
    """Purchase fails as the script says, then is answered.

    Attributes:
        failures: one for each purchase: an error, or trailing metadata of a bare UNAVAILABLE.
        seen: (request, metadata) of each purchase.
        received: set at the first purchase; `hang` keeps it from being answered.
    """

    def __init__(self) -> None:
        self.target = ""
        self.failures: list[SeckillError | tuple[tuple[str, str], ...]] = []
        self.seen: list[tuple[gateway_pb2.PurchaseRequest, dict[str, str]]] = []
        self.received = asyncio.Event()
        self.hang = False

    async def IssuePurchaseToken(
        self, request: gateway_pb2.IssuePurchaseTokenRequest, _context: Context
    ) -> gateway_pb2.IssuePurchaseTokenResponse:
        return gateway_pb2.IssuePurchaseTokenResponse(purchase_token=f"for-{request.sku}")

    async def Purchase(
        self, request: gateway_pb2.PurchaseRequest, context: Context
    ) -> gateway_pb2.PurchaseResponse:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.seen.append((request, metadata))
        self.received.set()
        if self.hang:
            await asyncio.Event().wait()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, SeckillError):
                await context.abort(failure.code, str(failure), trailing_metadata(failure))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken", failure)
        return gateway_pb2.PurchaseResponse(
            outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED, order_no="A"
        )

    async def GetOrder(
        self, request: gateway_pb2.GatewayServiceGetOrderRequest, _context: Context
    ) -> gateway_pb2.GatewayServiceGetOrderResponse:
        order = order_pb2.Order(order_no=request.order_no, state=order_pb2.ORDER_STATE_PENDING)
        return gateway_pb2.GatewayServiceGetOrderResponse(order=order)

    async def WatchOrder(
        self, request: gateway_pb2.GatewayServiceWatchOrderRequest, _context: Context
    ) -> AsyncIterator[gateway_pb2.GatewayServiceWatchOrderResponse]:
        for state in (order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_PAID):
            order = order_pb2.Order(order_no=request.order_no, state=state)
            yield gateway_pb2.GatewayServiceWatchOrderResponse(order=order)
        await asyncio.Event().wait()


@pytest.fixture
async def gateway() -> AsyncIterator[Scripted]:
    """A gateway on a free port."""
    server, scripted = grpc.aio.server(), Scripted()  # type: ignore[abstract]
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(scripted, server)
    scripted.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield scripted
    await server.stop(None)


@pytest.fixture(params=["aio", "sync"])
def buy(request: pytest.FixtureRequest, gateway: Scripted) -> Buy:
    """A purchase by either twin."""

    async def by_task(**arguments: Any) -> Purchase:
        async with SeckillClient(gateway.target, identity=_later, policy=QUICK) as client:
            return await client.buy("phone", **arguments)

    def in_thread(**arguments: Any) -> Purchase:
        with SyncSeckillClient(gateway.target, identity=lambda: "jwt", policy=QUICK) as client:
            return client.buy("phone", **arguments)

    async def by_thread(**arguments: Any) -> Purchase:
        return await asyncio.to_thread(in_thread, **arguments)

    return by_task if request.param == "aio" else by_thread


async def _later() -> str:
    return "jwt"


async def test_a_purchase_carries_identity_token_and_sku(gateway: Scripted, buy: Buy) -> None:
    """The identity from a function; the sku in metadata, too."""
    bought = await buy(quantity=2, request_id="r1")
    assert bought == Purchase(
        outcome=Outcome.RESERVED, order_no="A", request_id="r1", sku="phone", quantity=2
    )
    ((request, metadata),) = gateway.seen
    assert (request.purchase_token, request.quantity) == ("for-phone", 2)
    assert metadata["authorization"] == "Bearer jwt"
    assert metadata["seckill-sku"] == "phone"
    assert metadata["user-agent"].startswith("seckill-client/")


async def test_it_comes_back_when_the_reply_says_with_the_same_request(
    gateway: Scripted, buy: Buy
) -> None:
    """By RetryInfo; by the pushback of a bare status."""
    gateway.failures = [RateLimited("user", retry_after_s=0.2), ((PUSHBACK_KEY, "150"),)]
    start_s = time.monotonic()
    assert (await buy()).reserved
    assert time.monotonic() - start_s > 0.35
    assert len({request.request_id for request, _ in gateway.seen}) == 1
    assert len(gateway.seen) == 3


async def test_a_deadline_without_an_answer_is_an_unknown_outcome(
    gateway: Scripted, buy: Buy
) -> None:
    """It names the request to ask again with; gRPC did not repeat it by itself."""
    gateway.hang = True
    with pytest.raises(OutcomeUnknown) as raised:
        await buy(request_id="r1", timeout_s=0.5)
    assert raised.value.request_id == "r1"
    assert len(gateway.seen) == 1


async def test_a_pause_beyond_the_deadline_is_not_waited_for(gateway: Scripted, buy: Buy) -> None:
    """The failure says how long it would have been."""
    gateway.failures = [RateLimited("user", retry_after_s=60)]
    with pytest.raises(TryLater) as raised:
        await buy(timeout_s=5)
    assert raised.value.reason == "RATE_LIMITED"
    assert raised.value.retry_after_s == 60


async def test_a_watch_tells_when_the_order_is_settled(gateway: Scripted) -> None:
    """The stream is left open by the server and ended by the client."""
    async with SeckillClient(gateway.target, identity="jwt") as client:
        assert (await client.wait("A")).state == order_pb2.ORDER_STATE_PAID
    with SyncSeckillClient(gateway.target, identity="jwt") as twin:
        assert (await asyncio.to_thread(twin.wait, "A")).state == order_pb2.ORDER_STATE_PAID


async def test_each_call_is_told_of_with_its_failure(gateway: Scripted) -> None:
    """For metrics: method, time, response or failure."""
    gateway.failures = [((PUSHBACK_KEY, "1"),)]
    calls: list[Call] = []
    async with SeckillClient(gateway.target, identity="jwt", on_call=calls.append) as client:
        await client.buy("phone")
    assert [call.method for call in calls] == ["IssuePurchaseToken", "Purchase", "Purchase"]
    assert [call.failure is None for call in calls] == [True, False, True]
    assert all(call.seconds > 0 for call in calls)


async def test_a_simulated_buyer_keeps_a_record_of_what_they_were_told(gateway: Scripted) -> None:
    """Each attempt with its errors, also the one that was cut off; it can be sent to a process."""
    gateway.failures = [((PUSHBACK_KEY, "1"),)]
    ended: list[str] = []
    async with SeckillClient(gateway.target) as client:
        buyer = Buyer(
            client, "ann", "jwt", on_attempt=lambda attempt: ended.append(attempt.request_id)
        )
        first = await buyer.buy("phone", request_id="r1")
        assert (first.outcome, first.order_no, first.purchases) == (Outcome.RESERVED, "A", 2)
        assert first.latency_s > 0
        assert [error.code for error in first.errors] == [grpc.StatusCode.UNAVAILABLE]
        gateway.hang = True
        gateway.received.clear()
        buying = asyncio.create_task(buyer.buy("phone", request_id="r2"))
        await gateway.received.wait()
        buying.cancel()
        await asyncio.gather(buying, return_exceptions=True)
    assert not first.unknown
    assert buyer.attempts[1].unknown
    assert ended == ["r1", "r2"]
    assert buyer.order_no == "A"
    same = pickle.loads(pickle.dumps(buyer.attempts))  # noqa: S301 - our own
    assert same[0].errors[0].code is grpc.StatusCode.UNAVAILABLE


async def test_a_buyer_without_patience_asks_once(gateway: Scripted) -> None:
    """A failure is the end, and it is on the record."""
    gateway.failures = [RateLimited("user", retry_after_s=0.01)]
    async with SeckillClient(gateway.target) as client:
        attempt = await Buyer(client, "ann", "jwt", patience_s=0).buy("phone")
    assert attempt.failure is not None
    assert attempt.failure.reason == "RATE_LIMITED"
    assert not attempt.unknown
    assert len(gateway.seen) == 1


async def test_a_gateway_behind_tls_is_called_with_credentials(tmp_path: Any) -> None:
    """Both twins; without credentials there is no answer."""
    files = load_or_create(tmp_path)
    pair = (files.server_key.read_bytes(), files.server.read_bytes())
    server = grpc.aio.server()
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(Scripted(), server)  # type: ignore[abstract]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    credentials = grpc.ssl_channel_credentials(files.authority.read_bytes())
    target = f"localhost:{port}"

    def in_thread() -> Purchase:
        with SyncSeckillClient(target, credentials=credentials, identity="jwt") as client:
            return client.buy("phone")

    async with SeckillClient(target, credentials=credentials, identity="jwt") as client:
        assert (await client.buy("phone")).reserved
    assert (await asyncio.to_thread(in_thread)).reserved
    async with SeckillClient(target, identity="jwt", policy=RetryPolicy(attempts_max=1)) as plain:
        with pytest.raises(TryLater):
            await plain.buy("phone")
    await server.stop(None)
