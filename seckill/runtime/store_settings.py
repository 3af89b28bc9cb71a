"""Settings of the stores: where they are, and what they demand of those who connect."""

import ssl
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings
from redis.asyncio.connection import parse_url as parse_redis_url

from seckill.runtime.addresses import (
    addresses_of_nodes,
    check_addresses,
    check_postgres_dsn,
    check_redis_url,
    url_options,
)
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.settings import CONFIG, Count, Seconds
from seckill.runtime.store_tls import TlsFiles, read_bytes, store_context

# What the drivers' own addresses can say of TLS; files named in both places contradict each other.
_FILES_IN_REDIS_URL = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES_IN_DSN = ("sslrootcert", "sslcert", "sslkey")


class SharedRedisSettings(BaseSettings):
    """What all services of a mesh say of Redis alike."""

    model_config = CONFIG

    # What all keys and channels begin with, up to the first colon. Meshes that share a Redis,
    # without a database number of their own, need one each; it must not change while a mesh has
    # sales.
    redis_prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "seckill"
    # Whether Redis is a cluster (Redis 7.2 or later, or Valkey). The addresses may name several of
    # its nodes then, redis://user:password@host:port,host:port; the others are found by asking.
    redis_cluster: bool = False
    # For rediss:// addresses: PEM file of the authorities that may vouch for Redis; empty: the
    # system's. Each new connection uses these files as they are then, so they may be renewed while
    # a service runs.
    redis_tls_ca: str = ""
    # PEM file of our certificate with its chain, for a Redis that demands one, and of its key.
    redis_tls_certificate: str = ""
    redis_tls_key: str = ""

    def redis_tls_files(self) -> TlsFiles:
        """Return the files that are given."""
        return TlsFiles(
            "SECKILL_REDIS_TLS",
            ca=self.redis_tls_ca,
            certificate=self.redis_tls_certificate,
            key=self.redis_tls_key,
        )

    @model_validator(mode="after")
    def _redis_files_can_be_used(self) -> Self:
        self.redis_tls_files().check()
        return self


class RedisSettings(SharedRedisSettings):
    """Where Redis is."""

    model_config = CONFIG

    # Address and credentials of Redis or Valkey: redis://, rediss:// (TLS) or unix://. A user of an
    # access list stands before the password: rediss://user:password@host:port/0.
    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)]
    # A command that takes longer has failed; its effect is unknown.
    redis_timeout_s: Seconds = 1.0
    # Connections of this process, in a cluster to each node; a command waits for a free one as
    # long as for an answer.
    redis_connections_max: Count = 16
    # Sorted sets that hold the orders whose payment windows run, by their order numbers: in a
    # cluster each is on one node. Of order and rollback alike; what a larger number has left behind
    # is found by the sweep of the database.
    delay_shards: Annotated[int, Field(ge=1, le=256)] = 1

    def redis_addresses(self) -> list[str]:
        """Return an address for each node that is named."""
        return addresses_of_nodes(self.redis_url.get_secret_value())

    def redis_tls(self) -> ssl.SSLContext | None:
        """Return how connections are encrypted; None leaves it to the address."""
        files = self.redis_tls_files()
        return store_context(files) if any(files.given()) else None

    @model_validator(mode="after")
    def _redis_address_fits_its_files(self) -> Self:
        check_redis_tls("SECKILL_REDIS_URL", self.redis_url, self.redis_tls_files())
        check_redis_cluster("SECKILL_REDIS_URL", self.redis_url, cluster=self.redis_cluster)
        return self


def check_redis_cluster(variable: str, url: SecretStr, *, cluster: bool) -> None:
    """Raise ValueError unless an address of Redis fits SECKILL_REDIS_CLUSTER.

    Args:
        variable: that holds the address.
    """
    addresses = addresses_of_nodes(url.get_secret_value())
    if not cluster and len(addresses) > 1:
        raise ValueError(f"{variable} names several nodes: SECKILL_REDIS_CLUSTER must be true")
    for address in addresses if cluster else ():
        if address.startswith("unix://"):
            raise ValueError(f"SECKILL_REDIS_CLUSTER needs {variable} to name a host")
        if parse_redis_url(address).get("db"):
            raise ValueError(
                f"{variable} has a database number, and a cluster has one database:"
                " SECKILL_REDIS_PREFIX keeps meshes apart"
            )


def check_redis_tls(variable: str, url: SecretStr, files: TlsFiles) -> None:
    """Raise ValueError unless an address of Redis fits the files for TLS.

    Args:
        variable: that holds the address.
    """
    address = url.get_secret_value()
    options = url_options(address)
    for name, _ in files.given():
        if not address.startswith("rediss://"):
            raise ValueError(f"{name} needs {variable} to begin with rediss://")
        if named := [option for option in _FILES_IN_REDIS_URL if option in options]:
            raise ValueError(f"{name} and {named[0]} in {variable} are two answers to one question")
    for option in _FILES_IN_REDIS_URL:
        if path := options.get(option):
            read_bytes(f"{variable}: {option}", path)


class KafkaSettings(BaseSettings):
    """Where Kafka is, and what its topics are called."""

    model_config = CONFIG

    # Brokers to connect to first, host:port, separated by commas.
    kafka_bootstrap: Annotated[str, AfterValidator(check_addresses)]
    # What their listener demands, in Kafka's words: nothing, TLS, a user, or both.
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    # How the user is proven, with the two that begin with SASL.
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    # The user, and their password.
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    # PEM file of the authorities that may vouch for the brokers; empty: the system's. Each new
    # connection uses these files as they are then, so they may be renewed while a service runs.
    kafka_tls_ca: str = ""
    # PEM file of our certificate with its chain, for brokers that demand one, and of its key.
    kafka_tls_certificate: str = ""
    kafka_tls_key: str = ""
    # Topic of reservation events: inventory_svc produces, order_svc consumes.
    orders_topic: str = "seckill.orders.v1"
    # Topic of dead letters: what neither service can use.
    dead_letter_topic: str = "seckill.orders.v1.dlq"

    def kafka_tls_files(self) -> TlsFiles:
        """Return the files that are given."""
        return TlsFiles(
            "SECKILL_KAFKA_TLS",
            ca=self.kafka_tls_ca,
            certificate=self.kafka_tls_certificate,
            key=self.kafka_tls_key,
        )

    def kafka_cluster(self) -> KafkaCluster:
        """Return the cluster, for its clients."""
        protocol = self.kafka_security_protocol
        security: dict[str, object] = {"security_protocol": protocol}
        if protocol.endswith("SSL"):
            security["ssl_context"] = store_context(self.kafka_tls_files())
        if protocol.startswith("SASL"):
            security |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": self.kafka_sasl_password.get_secret_value(),
            }
        return KafkaCluster(self.kafka_bootstrap, security)

    @model_validator(mode="after")
    def _kafka_credentials_fit_the_protocol(self) -> Self:
        protocol, own = self.kafka_security_protocol, "SECKILL_KAFKA_SECURITY_PROTOCOL"
        for name, _ in self.kafka_tls_files().given():
            if not protocol.endswith("SSL"):
                raise ValueError(f"{name} needs {own}=SSL or SASL_SSL, which is {protocol}")
        self.kafka_tls_files().check()
        for name, value in (
            ("SECKILL_KAFKA_SASL_USERNAME", self.kafka_sasl_username),
            ("SECKILL_KAFKA_SASL_PASSWORD", self.kafka_sasl_password.get_secret_value()),
        ):
            if protocol.startswith("SASL") and not value:
                raise ValueError(f"{name} is not set, and {own}={protocol} needs it")
            if value and not protocol.startswith("SASL"):
                raise ValueError(f"{name} needs {own}=SASL_SSL or SASL_PLAINTEXT")
        return self


class PostgresSettings(BaseSettings):
    """Where Postgres is."""

    model_config = CONFIG

    # Address and credentials of the database: postgresql://user:password@host:port/database.
    postgres_dsn: Annotated[SecretStr, AfterValidator(check_postgres_dsn)]
    # PEM file of the authorities that may vouch for Postgres; with it the certificate must name the
    # host, too, unless the address says sslmode=verify-ca. Without it an address that says
    # sslmode=verify-full asks the system's authorities. Each new connection uses these files as
    # they are then, so they may be renewed while a service runs.
    postgres_tls_ca: str = ""
    # PEM file of our certificate with its chain, for a Postgres that demands one, and of its key.
    postgres_tls_certificate: str = ""
    postgres_tls_key: str = ""
    # transaction: between us and Postgres is a pooler that lends sessions for one transaction, as
    # PgBouncer does with pool_mode=transaction. Nothing is kept in a session then: a transaction
    # costs a round trip more, each statement another one, a statement on its own three.
    postgres_pooler: Literal["none", "transaction"] = "none"
    # A statement that takes longer has failed.
    postgres_timeout_s: Seconds = 5.0
    # Connections of this process.
    postgres_connections_max: Count = 8

    def postgres_tls_files(self) -> TlsFiles:
        """Return the files that are given."""
        return TlsFiles(
            "SECKILL_POSTGRES_TLS",
            ca=self.postgres_tls_ca,
            certificate=self.postgres_tls_certificate,
            key=self.postgres_tls_key,
        )

    def postgres_tls(self) -> ssl.SSLContext | None:
        """Return how connections are encrypted; None leaves it to the address."""
        files = self.postgres_tls_files()
        options = url_options(self.postgres_dsn.get_secret_value())
        mode = options.get("sslmode", "")
        by_system = mode.startswith("verify-") and "sslrootcert" not in options
        if not any(files.given()) and not by_system:
            return None
        return store_context(files, check_name=mode != "verify-ca")

    @model_validator(mode="after")
    def _postgres_address_fits_its_files(self) -> Self:
        options = url_options(self.postgres_dsn.get_secret_value())
        if options.get("sslmode", "prefer") not in _SSL_MODES:
            raise ValueError(f"sslmode in SECKILL_POSTGRES_DSN must be one of {_SSL_MODES}")
        for name, _ in self.postgres_tls_files().given():
            if options.get("sslmode") == "disable":
                raise ValueError(f"{name} contradicts sslmode=disable in SECKILL_POSTGRES_DSN")
            if named := [option for option in _FILES_IN_DSN if option in options]:
                raise ValueError(
                    f"{name} and {named[0]} in SECKILL_POSTGRES_DSN are two answers to one question"
                )
        self.postgres_tls_files().check()
        for option in _FILES_IN_DSN:
            if path := options.get(option):
                read_bytes(f"SECKILL_POSTGRES_DSN: {option}", path)
        return self


# Services may share an environment that has the settings of all stores.
STORES = (RedisSettings, KafkaSettings, PostgresSettings)
