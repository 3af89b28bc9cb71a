"""With replicas configured, a reservation counts once they have it."""

import dataclasses
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import grpc
import pytest
import redis.asyncio

from devstack import ProcessSpec, Stores, ValkeyServer
from inventory_svc.stock.scripts import Confirmation
from inventory_svc.stock.stock import Stock
from seckill.errors import OutcomeUnknown
from seckill.runtime.clock import SystemClock
from seckill.status import reason_of
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReserveItem
from tests.kits.factories import new_id
from tests.kits.inventory import StockKit, attempt
from tests.kits.recovery import open_shop, terms_of
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
WAIT_TIMEOUT_MS = 300


class Replica(ValkeyServer):
    """Follows another server."""

    name: ClassVar[str] = "replica"
    primary_port: int = 0

    def _spec(self) -> ProcessSpec:
        spec = super()._spec()
        follow = ["--replicaof", "127.0.0.1", str(self.primary_port)]
        return dataclasses.replace(spec, command=[*spec.command, *follow])


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[tuple[ValkeyServer, Replica]]:
    """A primary and its replica."""
    with ValkeyServer(tmp_path / "primary") as primary:
        follower = Replica(tmp_path / "replica")
        follower.primary_port = primary.port
        with follower:
            yield primary, follower


@pytest.fixture
async def kit(replica: tuple[ValkeyServer, Replica]) -> AsyncIterator[StockKit]:
    """Stock on the primary that waits for one replica."""
    kit = StockKit(replica[0].url)
    kit.stock = confirmed_by(kit, 1)

    async def online() -> bool:
        facts = await kit.redis.info("replication")
        return str(facts.get("slave0", {}).get("state")) == "online"

    await eventually(online)
    yield kit
    await kit.close()


def confirmed_by(kit: StockKit, replicas: int) -> Stock:
    """Stock whose reservations so many replicas must have."""
    return Stock(
        redis.asyncio.Redis(connection_pool=kit.redis.connection_pool),
        clock=SystemClock(),
        rng=random.SystemRandom(),
        scripts_max=8,
        waiting_max=64,
        backlog_max=1_000,
        confirm=Confirmation(replicas=replicas, timeout_ms=WAIT_TIMEOUT_MS),
    )


async def _confirmed(kit: StockKit, sku: str, item: ReserveItem) -> bool:
    """Tell whether the replica had it in time; a busy machine is asked again."""
    try:
        ((outcome, _),) = await kit.reserve(sku, item)
    except OutcomeUnknown:
        return False
    return outcome == RESERVED


async def test_unconfirmed_reservation_is_unknown_until_a_replica_has_it(
    kit: StockKit, replica: tuple[ValkeyServer, Replica]
) -> None:
    """A frozen replica: unknown, also when asked again; thawed: the same request is RESERVED."""
    sku = await kit.load()
    await eventually(partial(_confirmed, kit, sku, attempt()))
    item = attempt()
    os.kill(replica[1].pid, signal.SIGSTOP)
    try:
        with pytest.raises(OutcomeUnknown):
            await kit.reserve(sku, item)
        # On a connection that has written nothing itself, as another process would have it.
        await kit.redis.connection_pool.disconnect()
        with pytest.raises(OutcomeUnknown):
            await kit.reserve(sku, item)
        # A buyer who is refused is told at once: nothing is promised to them.
        sold_out = await kit.reserve(sku, attempt(quantity=1_000))
        assert sold_out[0][0] == inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED
    finally:
        os.kill(replica[1].pid, signal.SIGCONT)
    await eventually(partial(_confirmed, kit, sku, item))
    assert (await kit.left(sku), await kit.queued(sku)) == (8, 2)


async def test_a_buyer_learns_by_the_same_request_what_a_replica_did_not_confirm(
    replica: tuple[ValkeyServer, Replica], stores: Stores, database_dsn: str, topics: Topics
) -> None:
    """Through the configured service: unknown while the replica is frozen, then RESERVED."""
    async with open_shop(
        stores,
        redis_url=replica[0].url,
        database_dsn=database_dsn,
        topics=topics,
        inventory_wait_replicas=1,
        inventory_wait_timeout_ms=WAIT_TIMEOUT_MS,
    ) as shop:
        sku, buyer = await shop.create(terms_of(10)), new_id("buyer")
        os.kill(replica[1].pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await shop.reserve(sku, buyer)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert reason_of(caught.value) == "OUTCOME_UNKNOWN"
        finally:
            os.kill(replica[1].pid, signal.SIGCONT)

        async def told() -> inventory_pb2.ReserveResult | None:
            try:
                return await shop.reserve(sku, buyer)
            except grpc.aio.AioRpcError:
                return None

        result = await eventually(told, lambda seen: seen is not None)
        assert result is not None
        assert result.outcome == RESERVED
        assert await shop.stock(sku) == 9
        order = await shop.written(result.order_no)
        assert order is not None
        assert order.user_id == buyer


async def test_without_enough_replicas_nothing_is_promised(kit: StockKit) -> None:
    """Two are demanded and one is there."""
    sku = await kit.load()
    kit.stock = confirmed_by(kit, 2)
    with pytest.raises(OutcomeUnknown):
        await kit.reserve(sku, attempt())
