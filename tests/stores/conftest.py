"""Fixtures: stores that demand what those of production demand."""

from collections.abc import Iterator

import pytest

from devstack import Stores
from devstack.authority import Authority, Issued
from tests.kits.secure.debian import pgbouncer_binary, tls_postgres_binaries, tls_redis_binary
from tests.kits.secure.kafka import SecureKafka
from tests.kits.secure.pgbouncer import PgBouncer
from tests.kits.secure.postgres import USER, SecurePostgres
from tests.kits.secure.redis import SecureRedis


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority that all stores and their clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="package")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return one that none of them trusts."""
    return Authority(tmp_path_factory.mktemp("other"), "another authority")


@pytest.fixture(scope="package")
def client(authority: Authority) -> Issued:
    """Return the certificate of the mesh."""
    return authority.issue(USER)


@pytest.fixture(scope="package")
def secure_kafka(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    """Start Kafka with its listeners."""
    with SecureKafka(tmp_path_factory.mktemp("kafka"), authority) as server:
        yield server


@pytest.fixture(scope="package")
def secure_redis(
    authority: Authority, client: Issued, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureRedis]:
    """Start Redis with TLS and an access list."""
    directory, binary = tmp_path_factory.mktemp("redis"), tls_redis_binary()
    with SecureRedis(directory, authority, client, binary=binary) as server:
        yield server


@pytest.fixture(scope="package")
def secure_postgres(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecurePostgres]:
    """Start Postgres with TLS and client certificates."""
    binaries = tls_postgres_binaries()
    with SecurePostgres(tmp_path_factory.mktemp("postgres"), authority, binaries) as server:
        yield server


@pytest.fixture(scope="package")
def pgbouncer(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """Start PgBouncer before the Postgres of all tests."""
    binary = pgbouncer_binary()
    directory = tmp_path_factory.mktemp("pgbouncer")
    with PgBouncer(directory, binary=binary, behind=stores.postgres_dsn) as server:
        yield server
