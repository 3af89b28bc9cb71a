"""Used solutions: the table of one gateway and that of all gateways keep one contract."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
import redis.asyncio

from gateway.challenge.shared_spent import SharedSpentSolutions, key_of
from gateway.challenge.spent import LocalSpentSolutions, SpentSolutions
from seckill.client import proof_of_work
from seckill.v1 import challenge_pb2, gate_pb2, gateway_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.proxy import FaultProxy
from tests.kits.gateway import CALL_S, GatewayRig, details, failure, open_rig
from tests.kits.stores import client_of, one_server

NOW_S = time.time()
EXPIRE_S = NOW_S + 60


def shared(client: "redis.asyncio.Redis", *, timeout_s: float = 5.0) -> SharedSpentSolutions:
    """The table of one gateway of several."""
    return SharedSpentSolutions(LocalSpentSolutions(100), client, timeout_s=timeout_s)


@pytest.fixture(params=["local", "shared"])
async def spent(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[SpentSolutions]:
    """A table of either kind."""
    if request.param == "local":
        yield LocalSpentSolutions(100)
        return
    async with client_of(redis_url) as client:
        yield shared(client)


async def test_each_solution_counts_once(spent: SpentSolutions) -> None:
    """And no other is touched by it."""
    one, other = new_id("solution").encode(), new_id("solution").encode()
    assert await spent.spend(one, expire_s=EXPIRE_S, now_s=NOW_S)
    assert not await spent.spend(one, expire_s=EXPIRE_S, now_s=NOW_S + 1)
    assert await spent.spend(other, expire_s=EXPIRE_S, now_s=NOW_S)


async def test_gateways_share_what_was_used_until_it_expires(redis_url: str) -> None:
    """What counted at one gateway counts at no other; Redis forgets it by itself."""
    async with client_of(redis_url) as client:
        one, other = shared(client), shared(client)
        name = new_id("solution").encode()
        assert await one.spend(name, expire_s=EXPIRE_S, now_s=NOW_S)
        assert not await other.spend(name, expire_s=EXPIRE_S, now_s=NOW_S)
        assert 50_000 < await client.pttl(key_of(name)) <= 60_000


@one_server
async def test_without_redis_a_solution_counts_once_on_each_gateway(redis_url: str) -> None:
    """The sale goes on."""
    address, _, database = redis_url.removeprefix("redis://").partition("/")
    host, _, port = address.rpartition("@")[2].partition(":")
    name = new_id("solution").encode()
    async with FaultProxy(host, int(port)).running() as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/{database}"
        async with redis.asyncio.Redis.from_url(url) as client:
            one, other = shared(client, timeout_s=0.05), shared(client, timeout_s=0.05)
            await client.ping()
            proxy.requests.clear()
            for table in (one, other):
                assert await table.spend(name, expire_s=EXPIRE_S, now_s=NOW_S)
                assert not await table.spend(name, expire_s=EXPIRE_S, now_s=NOW_S)


async def ask(rig: GatewayRig, sku: str, user: str, solution: str = "") -> str:
    """Ask for a purchase token."""
    answer = await rig.stub.IssuePurchaseToken(
        gateway_pb2.IssuePurchaseTokenRequest(sku=sku, challenge_solution=solution),
        metadata=rig.identity(user),
        timeout=CALL_S,
    )
    return answer.purchase_token


async def test_a_challenge_of_one_gateway_is_solved_at_another(
    redis_url: str, tmp_path: Path
) -> None:
    """Once, wherever."""
    async with AsyncExitStack() as stack:
        rigs = [
            await open_rig(
                stack,
                tmp_path,
                front,
                gateway_redis_url=redis_url,
                gateway_redis_timeout_s=1.0,
                gateway_risk_required_claims="adult",
                gateway_challenge_max_number=1_000,
            )
            for front in ("http2", "grpcio")
        ]
        sku = new_id("sku")
        for rig in rigs:
            rig.services.inventory.put(sale_terms(sku=sku))
            rig.services.rules.policies[sku] = gate_pb2.SalePolicy(sku=sku, challenge_at=50)
            await rig.rule()
        one, other = rigs
        user = new_id("user")
        challenge = details(await failure(ask(one, sku, user)))["Challenge"]
        assert isinstance(challenge, challenge_pb2.Challenge)
        solution = proof_of_work.solve(challenge)
        assert solution is not None
        assert await ask(other, sku, user, solution)
        error = await failure(ask(one, sku, user, solution))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert details(error)["ErrorInfo"].metadata["problem"] == "spent"
