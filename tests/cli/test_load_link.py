"""The demo's cheap connection does what a gRPC channel does, as far as the flows can tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack.authority import Authority
from seckill.client import OutcomeUnknown, TryLater
from seckill.errors import Overloaded
from seckill.status import trailing_metadata
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2
from seckill_cli.load.link import CrowdClient, Link, LinkError
from seckill_cli.mesh import Security

Handler = Callable[[Any, Any], Awaitable[Any]]


# Its stub has every method abstract.
Servicer: Any = gateway_pb2_grpc.GatewayServiceServicer


class Shop(Servicer):  # type: ignore[misc]
    """Issues tokens, and answers purchases as it is told."""

    def __init__(self, purchase: Handler) -> None:
        self._purchase = purchase
        self.purchases: list[gateway_pb2.PurchaseRequest] = []
        self.metadata: dict[str, str | bytes] = {}

    async def IssuePurchaseToken(self, request: Any, context: Any) -> Any:
        del request, context
        return gateway_pb2.IssuePurchaseTokenResponse(purchase_token="token")

    async def Purchase(self, request: Any, context: Any) -> Any:
        self.purchases.append(request)
        self.metadata = dict(context.invocation_metadata())
        return await self._purchase(request, context)


async def reserve(_request: Any, _context: Any) -> Any:
    """Reserve at once."""
    return gateway_pb2.PurchaseResponse(
        outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED, order_no="0" * 26
    )


@asynccontextmanager
async def served(
    shop: Shop, *, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[int]:
    """Serve the shop with grpc.aio; gives the port."""
    server = grpc.aio.server()
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(shop, server)
    address = f"127.0.0.1:{port}"
    found = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    await server.start()
    try:
        yield found
    finally:
        await server.stop(0)


def client_of(port: int) -> CrowdClient:
    """A client of the server there, as some buyer."""
    return CrowdClient(f"127.0.0.1:{port}").acting_for("a-jwt")


async def test_calls_are_those_of_a_grpc_client() -> None:
    """A purchase arrives whole, with the buyer's identity and the sku, and its answer comes back;
    many at once share the connection.
    """
    shop = Shop(reserve)
    async with served(shop) as port, client_of(port) as client:
        bought = await asyncio.gather(*(client.buy("phone") for _ in range(500)))
    assert all(one.reserved and one.order_no == "0" * 26 for one in bought)
    assert {one.purchase_token for one in shop.purchases} == {"token"}
    assert len({one.request_id for one in shop.purchases}) == 500
    assert shop.metadata["authorization"] == "Bearer a-jwt"
    assert shop.metadata["seckill-sku"] == "phone"


async def test_many_calls_are_written_at_once_and_answered_in_their_order() -> None:
    """What failed is among the answers, and stops no other."""

    async def by_request(request: Any, context: Any) -> Any:
        if request.request_id == "7":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return gateway_pb2.PurchaseResponse(order_no=request.request_id.zfill(26))

    calls = [
        (gateway_pb2.PurchaseRequest(sku="phone", request_id=str(number)).SerializeToString(), ())
        for number in range(300)
    ]
    async with served(Shop(by_request)) as port:
        link = Link(f"127.0.0.1:{port}")
        answers = await link.call_together("Purchase", calls, 10.0)
        link.close()
    failed = [answer for answer in answers if isinstance(answer, LinkError)]
    assert [error.code() for error in failed] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert answers.index(failed[0]) == 7
    numbers = [
        gateway_pb2.PurchaseResponse.FromString(answer).order_no
        for answer in answers
        if isinstance(answer, bytes)
    ]
    assert numbers == [str(number).zfill(26) for number in range(300) if number != 7]


async def test_a_link_speaks_tls_and_knows_whom_it_calls(tmp_path: Path) -> None:
    """The certificate must name the server."""
    authority = Authority(tmp_path)
    issued = authority.issue("shop")
    pair = (issued.key.read_bytes(), issued.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair])
    security = Security.of(tls=True, ca=authority.certificate, cert=None, key=None).context()
    request = gateway_pb2.IssuePurchaseTokenRequest(sku="phone").SerializeToString()
    async with served(Shop(reserve), credentials=credentials) as port:
        link = Link(f"127.0.0.1:{port}", security=security)
        answer = await link.call("IssuePurchaseToken", request, (), 5.0)
        link.close()
        assert gateway_pb2.IssuePurchaseTokenResponse.FromString(answer).purchase_token == "token"
        other = Link(f"127.0.0.1:{port}", security=security, server_name="other.example")
        with pytest.raises(LinkError):
            await other.call("IssuePurchaseToken", request, (), 5.0)


async def test_failures_mean_what_they_say() -> None:
    """Reason, message and pause of a status are read from the trailers."""
    refused = Overloaded()
    refused.retry_after_s = 0.25

    async def refuse(_request: Any, context: Any) -> None:
        context.set_trailing_metadata(trailing_metadata(refused))
        await context.abort(refused.code, "100 % busy\n")

    async with served(Shop(refuse)) as port, client_of(port) as client:
        with pytest.raises(TryLater) as failure:
            await client.buy("phone", timeout_s=0.2)
    assert failure.value.reason == "OVERLOADED"
    assert failure.value.message == "100 % busy\n"
    assert failure.value.retry_after_s == pytest.approx(0.25)


async def test_methods_that_the_server_lacks_are_failures() -> None:
    """A status without a body is a failure too."""
    async with served(Shop(reserve)) as port, client_of(port) as client:
        with pytest.raises(Exception, match="not implemented"):
            await client.cancel("0" * 26)


async def test_a_call_that_is_never_answered_ends_at_its_deadline() -> None:
    """The buyer does not know what became of it; the server is told that nobody waits."""
    given_up = asyncio.Event()

    async def hang(_request: Any, _context: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            given_up.set()

    async with served(Shop(hang)) as port, client_of(port) as client:
        with pytest.raises(OutcomeUnknown):
            await client.buy("phone", timeout_s=0.3)
        await asyncio.wait_for(given_up.wait(), 5)


async def test_a_server_that_comes_back_is_found_again() -> None:
    """Calls fail while there is no server, the flow repeats them, and one opens a connection."""
    shop = Shop(reserve)
    async with served(shop) as port:
        client = client_of(port)
        assert (await client.buy("phone")).reserved
    async with client:
        waiting = asyncio.create_task(client.buy("phone", timeout_s=30))
        await asyncio.sleep(0)
        async with served(shop, port=port):
            assert (await waiting).reserved
