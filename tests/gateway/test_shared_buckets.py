"""Buckets of purchase tokens: the kind in memory and the kind in Redis keep one contract."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from devstack import Redis62Server, ValkeyServer
from gateway.buckets import Buckets
from gateway.issue.shared_buckets import BucketStore, SharedBuckets, key_of, key_prefix
from seckill.errors import RateLimited
from seckill.runtime.redis_client import open_redis
from seckill.runtime.store_settings import RedisSettings
from seckill.status import reason_of
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.proxy import FaultProxy
from tests.kits.gateway import GatewayRig, details, failure, open_rig
from tests.kits.redis_state import on_each_server
from tests.kits.stores import client_of, one_server
from tests.kits.waiting import eventually

NAME = "issue"
# Tokens hardly flow while a test runs.
SLOW = 0.01


class LocalKind:
    """Buckets of one gateway."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self.buckets = Buckets(NAME, rate_per_s=rate_per_s, burst=burst, tracked_max=100)

    async def take(self, keys: Sequence[str]) -> list[float]:
        """Seconds to wait for each; 0 for a token taken."""
        return [self._take(key) for key in keys]

    def _take(self, key: str) -> float:
        try:
            self.buckets.take(key, time.monotonic())
        except RateLimited as refused:
            return refused.retry_after_s or -1
        return 0.0


class RedisKind:
    """Buckets of all gateways."""

    def __init__(self, store: BucketStore, rate_per_s: float, burst: int) -> None:
        self.store = store
        self.buckets = SharedBuckets(NAME, rate_per_s=rate_per_s, burst=burst)

    async def take(self, keys: Sequence[str]) -> list[float]:
        """Seconds to wait for each; 0 for a token taken."""
        (answers,) = await self.store.take([(self.buckets, keys)])
        return [0.0 if each is None else each.retry_after_s or -1 for each in answers]


Kind = LocalKind | RedisKind
Make = Callable[[float, int], Kind]


@pytest.fixture(scope="module", params=[ValkeyServer, Redis62Server], ids=["valkey9", "redis62"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyServer]:
    """A server of each kind, for this module alone."""
    with request.param(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["local", "shared"])
async def make(request: pytest.FixtureRequest, server: ValkeyServer) -> AsyncIterator[Make]:
    """What makes buckets of either kind, with a rate and a burst."""
    if request.param == "local":
        yield LocalKind
        return
    settings = RedisSettings(redis_url=server.url)  # type: ignore[arg-type]
    async with open_redis(settings) as client:
        store = BucketStore(client, timeout_s=5)
        yield lambda rate_per_s, burst: RedisKind(store, rate_per_s, burst)


async def test_of_a_hundred_callers_as_many_pass_as_there_are_tokens(make: Make) -> None:
    """In batches that overlap, some of which name the bucket more than once."""
    kind, key = make(SLOW, 5), new_id("user")
    answers = await asyncio.gather(*(kind.take([key, key]) for _ in range(50)))
    waits = [wait_s for answer in answers for wait_s in answer]
    assert waits.count(0.0) == 5
    assert all(wait_s > 0 for wait_s in waits if wait_s)


async def test_the_wait_that_is_told_is_true(make: Make) -> None:
    """After it there is a token; a refusal has cost none."""
    kind, key = make(20.0, 1), new_id("user")
    assert await kind.take([key]) == [0.0]
    (wait_s,) = await kind.take([key])
    assert 0 < wait_s <= 0.06
    await asyncio.sleep(wait_s)
    assert await kind.take([key]) == [0.0]


async def test_buckets_do_not_touch(make: Make) -> None:
    """One buyer's haste is not another's, whatever stands between them in a batch."""
    kind, one, other = make(SLOW, 1), new_id("user"), "ü" * 100
    assert await kind.take([one, other, one]) == [0.0, 0.0, pytest.approx(100, abs=1)]


async def test_another_limit_leaves_what_was_spent(make: Make) -> None:
    """A larger burst gives its other tokens, a smaller one takes no more than all of them."""
    kind, key = make(SLOW, 3), new_id("user")
    assert await kind.take([key] * 3) == [0.0] * 3
    kind.buckets.adopt(rate_per_s=SLOW, burst=5, now_s=time.monotonic())
    assert [bool(wait_s) for wait_s in await kind.take([key] * 3)] == [False, False, True]
    kind.buckets.adopt(rate_per_s=1.0, burst=1, now_s=time.monotonic())
    (wait_s,) = await kind.take([key])
    assert 0.9 < wait_s <= 1.01


async def test_an_idle_bucket_leaves_redis_by_itself(server: ValkeyServer) -> None:
    """Its key has a short name, and lives until the bucket is full again."""
    settings = RedisSettings(redis_url=server.url)  # type: ignore[arg-type]
    async with open_redis(settings) as client:
        kind = RedisKind(BucketStore(client, timeout_s=5), 2.0, 10)
        user = new_id("u" * 100)
        await kind.take([user, user, user])
        key = key_of(NAME, user)
        assert key.startswith(key_prefix())
        assert len(key) < 60
        assert 1_000 < await client.pttl(key) <= 1_501


@pytest.fixture
async def pair(redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[GatewayRig, GatewayRig]]:
    """Two gateways that share a Redis, and let a buyer have two tokens."""
    async with AsyncExitStack() as stack:
        one, other = [
            await open_rig(
                stack,
                tmp_path,
                front,
                gateway_redis_url=redis_url,
                gateway_redis_timeout_s=1.0,
                gateway_rate_issue=SLOW,
                gateway_burst_issue=2,
            )
            for front in ("http2", "grpcio")
        ]
        sku = one.services.inventory.put(sale_terms(sku="shared"))
        other.services.inventory.put(one.services.inventory.sales[sku].terms)
        yield one, other


async def test_tokens_of_a_buyer_are_counted_over_all_gateways(
    pair: tuple[GatewayRig, GatewayRig],
) -> None:
    """What one gateway has issued the other one does not issue again; another buyer is free."""
    one, other = pair
    await one.token("shared", "alice")
    await other.token("shared", "alice")
    for rig in pair:
        refused = await failure(rig.token("shared", "alice"))
        assert reason_of(refused) == "RATE_LIMITED"
        assert details(refused)["QuotaFailure"].violations[0].subject == "issue"
        assert details(refused)["RetryInfo"].retry_delay.seconds >= 90
        await rig.token("shared", "bob")


async def test_a_limit_that_is_set_holds_for_the_shared_buckets(
    pair: tuple[GatewayRig, GatewayRig],
) -> None:
    """With three tokens for each buyer, the third may come from either gateway."""
    one, other = pair
    for rig in pair:
        rig.services.rules.limits = {"burst_issue": 3}
        await rig.rule()
    for rig in (one, other, one):
        await rig.token("shared", "alice")
    assert reason_of(await failure(other.token("shared", "alice"))) == "RATE_LIMITED"


async def scripts_run(client: "redis.asyncio.Redis") -> int:
    """How often scripts were run by name, since the servers started."""
    facts = await on_each_server(client, lambda server: server.info("commandstats"))
    return sum(one.get("cmdstat_evalsha", {}).get("calls", 0) for one in facts)


async def test_who_the_gateway_itself_refuses_costs_no_question(
    pair: tuple[GatewayRig, GatewayRig], redis_url: str
) -> None:
    """A local bucket that is empty decides before Redis is asked."""
    one, _ = pair
    for _ in range(2):
        await one.token("shared", "alice")
    async with client_of(redis_url) as client:
        before = await scripts_run(client)
        for _ in range(5):
            assert reason_of(await failure(one.token("shared", "alice"))) == "RATE_LIMITED"
        after = await scripts_run(client)
    assert after == before


async def test_buyers_at_the_same_moment_are_one_question(
    pair: tuple[GatewayRig, GatewayRig], redis_url: str
) -> None:
    """A hundred buyers cost a few calls of the script."""
    one, _ = pair
    async with client_of(redis_url) as client:
        await one.token("shared", "first")
        before = await scripts_run(client)
        await asyncio.gather(*(one.token("shared", f"buyer-{number}") for number in range(100)))
        after = await scripts_run(client)
    assert after - before < 50


def unshared() -> float:
    """Tokens that a gateway's own buckets have let pass alone."""
    return REGISTRY.get_sample_value("seckill_issues_unshared_total") or 0.0


@one_server
@pytest.mark.parametrize("fault", ["drop", "hold"])
async def test_without_redis_the_gateway_decides_alone(
    redis_url: str, tmp_path: Path, fault: str
) -> None:
    """Down or silent: no buyer gets an error, none waits long, and it is counted; then it heals."""
    address, _, database = redis_url.removeprefix("redis://").partition("/")
    host, _, port = address.rpartition("@")[2].partition(":")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(host, int(port)).running())
        rig = await open_rig(
            stack,
            tmp_path,
            "http2",
            gateway_redis_url=f"redis://127.0.0.1:{proxy.port}/{database}",
            gateway_rate_issue=SLOW,
            gateway_burst_issue=4,
        )
        sku = rig.services.inventory.put(sale_terms())
        await rig.token(sku, "alice")
        if fault == "drop":
            proxy.drop()
        else:
            proxy.requests.clear()
        before, started_s = unshared(), time.monotonic()
        for _ in range(3):
            await rig.token(sku, "alice")
        assert time.monotonic() - started_s < 0.5
        assert unshared() == before + 3
        assert reason_of(await failure(rig.token(sku, "alice"))) == "RATE_LIMITED"
        proxy.heal()

        async def asked_again() -> bool:
            known = unshared()
            await rig.token(sku, new_id("user"))
            return unshared() == known

        await eventually(asked_again)
