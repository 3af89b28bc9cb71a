"""Kafka as it is outside of a test: TLS, users, client certificates; a sale over all stores."""

import asyncio
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from devstack import Stores, create_topics
from devstack.authority import Authority, Issued
from devstack.mesh import TOPIC_SETTINGS, TOPICS
from inventory_svc.durability import unsafe_kafka_settings
from order_svc.db.migrate import migrate
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import Message, open_writer
from seckill.runtime.store_settings import KafkaSettings, PostgresSettings
from tests.kits.mesh import Mesh
from tests.kits.secure.kafka import PASSWORD, USER, SecureKafka
from tests.kits.secure.postgres import SecurePostgres
from tests.kits.secure.redis import SecureRedis
from tests.kits.selling import sell_out

MESSAGES = [Message(b"key", str(number).encode(), []) for number in range(20)]
READ_TIMEOUT_S = 20.0


def cluster(bootstrap: str, **settings: object) -> KafkaCluster:
    """Return the cluster of settings, as the environment would give them."""
    facts = {f"kafka_{name}": value for name, value in settings.items()}
    return KafkaSettings.model_validate({"kafka_bootstrap": bootstrap, **facts}).kafka_cluster()


async def read(reached: KafkaCluster, topic: str, count: int) -> list[bytes | None]:
    """Return the values of the first messages of a topic."""
    async with asyncio.timeout(READ_TIMEOUT_S):
        async with AIOKafkaConsumer(
            topic, **reached.client_options, group_id=None, auto_offset_reset="earliest"
        ) as consumer:
            return [(await consumer.getone()).value for _ in range(count)]


@pytest.fixture
async def topic(secure_kafka: SecureKafka) -> str:
    """Create a topic and return its name."""
    name = f"secure-{uuid.uuid4().hex}"
    await create_topics(secure_kafka.url, {name: 1})
    return name


@pytest.mark.parametrize(
    ("listener", "settings"),
    [
        ("TLS", {"security_protocol": "SSL"}),
        ("MUTUAL", {"security_protocol": "SSL", "certificate": True}),
        ("SASLTLS", {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}),
        ("SASLTLS", {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256"}),
        ("SASLTLS", {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}),
        ("SASLCLEAR", {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512"}),
    ],
)
async def test_each_kind_of_listener_is_written_read_and_administered(
    listener: str,
    settings: dict[str, object],
    secure_kafka: SecureKafka,
    topic: str,
    authority: Authority,
    client: Issued,
) -> None:
    """What was written by the relay's writer is read; a topic's settings can be asked for."""
    given = dict(settings)
    if str(given["security_protocol"]).endswith("SSL"):
        given["tls_ca"] = str(authority.certificate)
    if given.pop("certificate", False):
        given |= {"tls_certificate": str(client.certificate), "tls_key": str(client.key)}
    if str(given["security_protocol"]).startswith("SASL"):
        given |= {"sasl_username": USER, "sasl_password": PASSWORD}
    reached = cluster(secure_kafka.listener(listener), **given)
    async with open_writer(reached, timeout_s=READ_TIMEOUT_S) as writer:
        await writer.write(topic, MESSAGES)
    assert await read(reached, topic, len(MESSAGES)) == [message.value for message in MESSAGES]
    (problem,) = await unsafe_kafka_settings(reached, topic=topic) or ()
    assert "min.insync.replicas" in problem


@pytest.mark.parametrize(
    ("listener", "settings"),
    [
        ("MUTUAL", {"security_protocol": "SSL"}),
        (
            "SASLTLS",
            {"security_protocol": "SASL_SSL", "sasl_username": USER, "sasl_password": "guessed"},
        ),
        ("SASLTLS", {"security_protocol": "SSL"}),
    ],
)
async def test_who_lacks_what_a_listener_demands_writes_nothing(
    listener: str,
    settings: dict[str, object],
    secure_kafka: SecureKafka,
    topic: str,
    authority: Authority,
) -> None:
    """No certificate, another password, no user at all: the brokers refuse, and we say so."""
    reached = cluster(
        secure_kafka.listener(listener), **settings, tls_ca=str(authority.certificate)
    )
    async with open_writer(reached, timeout_s=2.0) as writer:
        with pytest.raises(DependencyUnavailable):
            await writer.write(topic, MESSAGES)


async def test_brokers_of_another_authority_are_not_trusted(
    secure_kafka: SecureKafka, topic: str, other_authority: Authority
) -> None:
    """Neither those of one that is named, nor those of one that the system does not know."""
    for files in ({"tls_ca": str(other_authority.certificate)}, {}):
        reached = cluster(secure_kafka.listener("TLS"), security_protocol="SSL", **files)
        async with open_writer(reached, timeout_s=2.0) as writer:
            with pytest.raises(DependencyUnavailable):
                await writer.write(topic, MESSAGES)


@pytest.mark.slow
async def test_a_sale_over_secure_stores(
    secure_kafka: SecureKafka,
    secure_redis: SecureRedis,
    secure_postgres: SecurePostgres,
    authority: Authority,
    client: Issued,
    tmp_path: Path,
) -> None:
    """Each hop to a store is encrypted, and both sides prove who they are."""
    files = {
        f"SECKILL_{store}_TLS_{name}": str(path)
        for store in ("KAFKA", "REDIS", "POSTGRES")
        for name, path in (
            ("CA", authority.certificate),
            ("CERTIFICATE", client.certificate),
            ("KEY", client.key),
        )
    }
    settings = {
        **files,
        "SECKILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SECKILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "SECKILL_KAFKA_SASL_USERNAME": USER,
        "SECKILL_KAFKA_SASL_PASSWORD": PASSWORD,
    }
    stores = Stores(
        postgres_dsn=secure_postgres.url,
        redis_url=secure_redis.url,
        kafka_bootstrap=secure_kafka.listener("SASLTLS"),
    )
    await create_topics(secure_kafka.url, TOPICS, TOPIC_SETTINGS)
    tls = PostgresSettings.model_validate(
        {
            "postgres_dsn": stores.postgres_dsn,
            "postgres_tls_ca": str(authority.certificate),
            "postgres_tls_certificate": str(client.certificate),
            "postgres_tls_key": str(client.key),
        }
    ).postgres_tls()
    await migrate(stores.postgres_dsn, tls=tls)
    with Mesh(stores, directory=tmp_path, settings=settings) as mesh:
        await sell_out(mesh)
