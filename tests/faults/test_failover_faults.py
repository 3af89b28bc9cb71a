"""A store behind one address fails over: services follow by themselves."""

import asyncio
import os
import pwd
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from pydantic import SecretStr

from devstack import PostgresServer, Redis62Server, Stores, ValkeyServer
from devstack.postgres import postgres_binary
from devstack.server import plain_environment
from inventory_svc.stock.scripts import Confirmation, Script, ScriptRunner
from order_svc.db.migrate import migrate
from seckill.client import Outcome
from seckill.errors import DependencyUnavailable, OutcomeUnknown
from seckill.runtime.redis_client import open_redis
from seckill.runtime.store_settings import RedisSettings
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.factories import sale_terms
from tests.kits.faults.cluster import CALL_S
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.proxy import FaultProxy
from tests.kits.health import NOT_SERVING, SERVING, until_health
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

LOOPBACK = "127.0.0.1"
# From the promotion on.
FAILOVER_S = 5.0


async def test_a_redis_turned_replica_is_left_for_the_new_primary(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_valkey: ValkeyServer,
    tmp_path: Path,
) -> None:
    """Its connections stay open, and still purchases go on; not ready while writes are refused."""
    with ValkeyServer(tmp_path / "standby") as standby:
        async with (
            redis.asyncio.Redis.from_url(own_valkey.url) as old,
            redis.asyncio.Redis.from_url(standby.url) as new,
            FaultProxy(LOOPBACK, own_valkey.port).running() as proxy,
            make_cluster(
                replace(own_stores, redis_url=f"redis://{LOOPBACK}:{proxy.port}/0")
            ) as cluster,
        ):
            await new.replicaof(LOOPBACK, own_valkey.port)
            await cluster.start("order", "inventory", "rollback")
            sku = await cluster.open_sale(sale_terms(units=100))
            buyers = make_buyers(cluster, sku)
            await buyers.arrive(30)

            async def replicated() -> bool:
                offsets = [(await client.info("replication")) for client in (old, new)]
                return bool(offsets[0]["master_repl_offset"] == offsets[1].get("slave_repl_offset"))

            await eventually(replicated)
            # The old one first: no unit is promised by it that the new one does not know.
            await old.replicaof(LOOPBACK, standby.port)
            refused = await buyers.attempt()
            assert refused.outcome is None
            assert not refused.unknown
            await asyncio.gather(
                *(
                    until_health(cluster.address(service), NOT_SERVING)
                    for service in ("inventory", "order", "rollback")
                )
            )
            await new.replicaof("NO", "ONE")
            proxy.switch(LOOPBACK, standby.port)
            async with asyncio.timeout(FAILOVER_S):
                told = await buyers.buy()
                assert told.outcome == Outcome.RESERVED
                await until_health(cluster.address("inventory"), SERVING)
            after = await buyers.arrive(30)
            assert all(attempt.outcome == Outcome.RESERVED for attempt in after)
            assert not await cluster.reader.violations(sku, buyers.history)


@one_server
@pytest.mark.parametrize("server_type", [ValkeyServer, Redis62Server])
async def test_the_outcome_of_a_script_is_told_right_while_its_server_is_demoted(
    tmp_path: Path, server_type: type[ValkeyServer]
) -> None:
    """Refused by a replica: nothing was done. Run, and demoted before it was confirmed: unknown."""
    script = Script("reserve")
    script.body = "redis.call('SET', KEYS[1], 'held') return {1}"
    confirm = Confirmation(replicas=1, timeout_ms=0)
    with server_type(tmp_path / "demoted") as server:
        settings = RedisSettings(redis_url=SecretStr(server.url), redis_timeout_s=20)
        async with (
            open_redis(settings) as client,
            redis.asyncio.Redis.from_url(server.url) as direct,
        ):
            runner = ScriptRunner(client)

            async def run(key: str) -> None:
                await runner.run(script, [key], [], timeout_s=20, confirm=confirm, marker="marker")

            async def waiting() -> int:
                return int((await direct.info("clients"))["blocked_clients"])

            running = asyncio.create_task(run("first"))
            await eventually(waiting)
            await direct.replicaof(LOOPBACK, 1)
            with pytest.raises(OutcomeUnknown):
                await running
            with pytest.raises(DependencyUnavailable):
                await run("second")
            assert await direct.mget("first", "second") == [b"held", None]


class StandbyServer(PostgresServer):
    """A Postgres that streams from another until it is promoted."""

    def __init__(self, directory: Path, primary: PostgresServer) -> None:
        super().__init__(directory)
        self._primary = primary

    def _create_cluster(self) -> Iterator[None]:
        shutil.copy2(self._primary.directory / "password", self._password_path)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            for path in (self._data, self._password_path):
                os.chown(path, account.pw_uid, account.pw_gid)
        yield from self._run(
            "basebackup",
            [
                str(postgres_binary("pg_basebackup")),
                *("-D", str(self._data), "-d", self._primary.url.rpartition("/")[0]),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            timeout_s=60.0,
            env=plain_environment(),
        )


async def test_a_postgres_whose_sessions_became_read_only_is_left_for_the_new_primary(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, tmp_path: Path
) -> None:
    """Sessions stay open, and still payments and orders go on; not ready without writes."""
    with PostgresServer(tmp_path / "old") as old:
        await migrate(old.url)
        with StandbyServer(tmp_path / "new", old) as new:
            await fail_over(make_cluster, make_buyers, own_stores, old=old, new=new)


async def fail_over(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    *,
    old: PostgresServer,
    new: PostgresServer,
) -> None:
    """Sell on `old`, make it read-only, promote `new`, and go on selling."""
    async with (
        FaultProxy(LOOPBACK, old.port).running() as proxy,
        make_cluster(replace(own_stores, postgres_dsn=new.url)) as cluster,
    ):
        # The reader looks at the new one, which has all that the old one has.
        dsn = old.url.replace(f":{old.port}/", f":{proxy.port}/")
        await cluster.start("inventory", "order", "rollback", postgres_dsn=dsn)
        sku = await cluster.open_sale(sale_terms(units=100))
        buyers = make_buyers(cluster, sku)
        told = await buyers.arrive(20)
        assert not await cluster.reader.violations(sku, buyers.history)
        admin = await asyncpg.connect(old.url)
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        await until_health(cluster.address("order"), NOT_SERVING)
        meanwhile = await buyers.arrive(20)
        assert all(attempt.outcome == Outcome.RESERVED for attempt in meanwhile)
        promoting = await asyncpg.connect(new.url)
        await promoting.execute("SELECT pg_promote()")
        proxy.switch(LOOPBACK, new.port)
        async with asyncio.timeout(FAILOVER_S), cluster.channel("order") as channel:
            await until_health(cluster.address("order"), SERVING)
            answer = await order_pb2_grpc.OrderServiceStub(channel).CancelOrder(
                order_pb2.CancelOrderRequest(order_no=told[0].order_no), timeout=CALL_S
            )
            assert answer.order.state == order_pb2.ORDER_STATE_CANCELLED
        assert not await cluster.reader.violations(sku, buyers.history)
        await admin.close()
        await promoting.close()
