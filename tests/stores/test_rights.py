"""Each stage has its own user in each store, with the rights of the files in deploy/, no more."""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import grpc
import pytest
import redis
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from devstack import Stores, create_topics
from devstack.authority import Authority
from devstack.kafka_users import grant_kafka_rights
from devstack.mesh import TOPIC_SETTINGS, TOPICS
from devstack.postgres import postgres_binary
from devstack.postgres_roles import POSTGRES_ROLES
from devstack.redis_users import redis_url_of
from devstack.valkey import ValkeyWithUsers
from order_svc.db.migrate import migrate
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import Message, open_writer
from seckill.runtime.store_settings import KafkaSettings
from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from tests.kits.actions import open_sale
from tests.kits.command import seckill
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.secure.kafka import PASSWORD, SecureKafka
from tests.kits.secure.rights import KAFKA_STAGES
from tests.kits.selling import sell_out
from tests.kits.waiting import eventually

REDIS_STAGES = ("gateway", "inventory", "order", "rollback")
OWNER, ORDER = "seckill_owner", "seckill_order"
ORDERS, DEAD_LETTERS, EVENTS = TOPICS
TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyWithUsers]:
    """Start it."""
    with ValkeyWithUsers(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
async def database(stores: Stores) -> AsyncIterator[str]:
    """Make a database with the roles of deploy/stores, migrated; its address has %s for a role."""
    name = f"rights_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    within = f"{stores.postgres_dsn.rpartition('/')[0]}/{name}"
    await asyncio.to_thread(
        subprocess.run,
        [
            *(str(postgres_binary("psql")), "-X", "-q", "-d", within, "-v", "ON_ERROR_STOP=1"),
            *("-v", f"owner_password={PASSWORD}", "-v", f"order_password={PASSWORD}"),
            *("-f", str(POSTGRES_ROLES)),
        ],
        check=True,
    )
    address = f"postgresql://%s:{PASSWORD}@{within.rpartition('@')[2]}"
    await migrate(address % OWNER)
    yield address
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for role in (OWNER, ORDER):
        await admin.execute(f"DROP ROLE {role}")
    await admin.close()


@pytest.fixture(scope="module")
def own_kafka(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    """Start a Kafka of its own: the topics of the other one belong to another mesh."""
    with SecureKafka(tmp_path_factory.mktemp("kafka-with-rights"), authority) as server:
        yield server


@pytest.fixture(scope="module")
async def kafka(own_kafka: SecureKafka) -> SecureKafka:
    """Kafka with the mesh's topics, and the rights of the example's users."""
    await create_topics(own_kafka.url, TOPICS, TOPIC_SETTINGS)
    await grant_kafka_rights(own_kafka.url)
    return own_kafka


def kafka_settings(kafka: SecureKafka, authority: Authority, stage: str) -> dict[str, str]:
    """The settings of a stage's user."""
    return {
        "SECKILL_KAFKA_BOOTSTRAP": kafka.listener("SASLTLS"),
        "SECKILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SECKILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "SECKILL_KAFKA_SASL_USERNAME": f"seckill-{stage}",
        "SECKILL_KAFKA_SASL_PASSWORD": PASSWORD,
        "SECKILL_KAFKA_TLS_CA": str(authority.certificate),
    }


def cluster(kafka: SecureKafka, authority: Authority, stage: str) -> KafkaCluster:
    """Kafka as a stage's user."""
    given = kafka_settings(kafka, authority, stage)
    names = {name.removeprefix("SECKILL_").lower(): value for name, value in given.items()}
    return KafkaSettings.model_validate(names).kafka_cluster()


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("gateway", ("GET", "seckill:kill-switch")),
        ("gateway", ("SET", "seckill:stock:{a}", "1")),
        ("gateway", ("ZADD", "{seckill:gate}:a", "1", "a")),
        ("inventory", ("ZADD", "seckill:delay", "1", "a")),
        ("inventory", ("GET", "seckill:order:{a}")),
        ("inventory", ("FLUSHALL",)),
        ("inventory", ("CONFIG", "SET", "save", "")),
        ("inventory", ("SUBSCRIBE", "others")),
        ("order", ("GET", "seckill:stock:{a}")),
        ("order", ("EVAL", "return 1", "0")),
        ("order", ("INFO",)),
        ("rollback", ("INCRBY", "seckill:stock:{a}", "1")),
        ("rollback", ("MGET", "seckill:order:{a}")),
        ("rollback", ("KEYS", "*")),
        *((stage, ("ACL", "LIST")) for stage in REDIS_STAGES),
        *((stage, ("SET", "shop:cart", "1")) for stage in REDIS_STAGES),
    ],
)
def test_redis_refuses_what_a_stage_does_not_need(
    valkey: ValkeyWithUsers, stage: str, command: tuple[str, ...]
) -> None:
    """By a command, or by a key."""
    with redis.Redis.from_url(redis_url_of(stage, valkey.url)) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "DROP TABLE order_voids",
        "ALTER TABLE stock_ledger DISABLE TRIGGER ALL",
        "TRUNCATE order_events",
        "SET ROLE seckill_owner",
        "CREATE ROLE another",
    ],
)
async def test_postgres_refuses_what_the_order_service_does_not_need(
    database: str, statement: str
) -> None:
    """It changes rows, and nothing else; not even ledgers' rows, which the schema refuses."""
    connection = await asyncpg.connect(database % ORDER)
    try:
        assert await connection.fetchval("SELECT count(*) FROM sales") is not None
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("stage", "topic"), [("inventory", EVENTS), ("order", "others"), ("inventory", "others")]
)
async def test_kafka_refuses_to_write_where_a_stage_does_not(
    kafka: SecureKafka, authority: Authority, stage: str, topic: str
) -> None:
    """Inventory makes no order events, and neither writes to topics of others."""
    await create_topics(kafka.url, {"others": 1})
    async with open_writer(cluster(kafka, authority, stage), timeout_s=3.0) as writer:
        with pytest.raises(DependencyUnavailable):
            await writer.write(topic, [Message(b"key", b"value", [])])


async def test_kafka_refuses_inventory_to_read(kafka: SecureKafka, authority: Authority) -> None:
    """Neither what it has written, nor what others did."""
    for topic in (ORDERS, EVENTS):
        with pytest.raises(KafkaError):
            await read_one(cluster(kafka, authority, "inventory"), topic)


async def read_one(reached: KafkaCluster, topic: str) -> None:
    """Read a message of a topic, if there is one in time."""
    consumer = AIOKafkaConsumer(
        topic, **reached.client_options, group_id=None, auto_offset_reset="earliest"
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await consumer.start()
            await consumer.getone()
    finally:
        await asyncio.gather(consumer.stop(), return_exceptions=True)


async def rebuilt(mesh: Mesh, sku: str) -> bool:
    """Rebuild a sale; False while a busy machine answers too late."""
    async with mesh.channel("inventory") as channel:
        request = inventory_pb2.RebuildSaleRequest(sku=sku)
        try:
            await inventory_pb2_grpc.InventoryServiceStub(channel).RebuildSale(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


@pytest.mark.slow
async def test_a_sale_and_its_operation_with_these_rights(
    valkey: ValkeyWithUsers,
    database: str,
    kafka: SecureKafka,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """Sold, rolled back, changed, rebuilt, audited, compared; dead letters sent again and dropped;
    the kill switch pulled. Every service has certificates, too.
    """
    own = {stage: {"SECKILL_REDIS_URL": redis_url_of(stage, valkey.url)} for stage in REDIS_STAGES}
    own["gateway"] = {"SECKILL_GATEWAY_REDIS_URL": redis_url_of("gateway", valkey.url)}
    for stage in KAFKA_STAGES:
        own[stage] |= kafka_settings(kafka, authority, stage)
    stores = Stores(
        postgres_dsn=database % ORDER,
        redis_url=redis_url_of("inventory", valkey.url),
        kafka_bootstrap=kafka.listener("SASLTLS"),
    )
    with Mesh(stores, directory=tmp_path, secure=True, own=own) as mesh:
        await sell_out(mesh)
        sku = await open_sale(mesh, sale_terms(units=2))

        async def run(*arguments: str) -> str:
            return await asyncio.to_thread(seckill, mesh, *arguments)

        assert "paused" in await run("sale", "pause", sku)
        assert "open" in await run("sale", "reopen", sku)
        await run("sale", "add-stock", sku, "--units", "1")
        with redis.Redis.from_url(valkey.url) as administrator:
            administrator.delete(f"seckill:sale:{{{sku}}}", f"seckill:stock:{{{sku}}}")
        await eventually(lambda: rebuilt(mesh, sku), timeout_s=60)
        await run("audit", "--sku", sku)
        await run("reconcile", sku)
        await run("kill-switch", "on", "--reason", "a try")
        await run("kill-switch", "off")
        await run("webhook", "endpoints")
        garbage = [Message(new_id("key").encode(), b"no reservation", []) for _ in range(2)]
        async with open_writer(KafkaCluster(kafka.url), timeout_s=TIMEOUT_S) as writer:
            await writer.write(ORDERS, garbage)

        async def listed() -> int:
            return (await run("dlq", "list")).count("undecodable")

        assert await eventually(listed, lambda count: count >= 2)
        await run("dlq", "redrive", "--cause", "undecodable")
        await run("dlq", "drop", "--cause", "undecodable", "--note", "a try")
        for name in REDIS_STAGES:
            assert "NOPERM" not in mesh.log(name)
            assert "No permissions" not in mesh.log(name)
            assert "AuthorizationFailed" not in mesh.log(name)
