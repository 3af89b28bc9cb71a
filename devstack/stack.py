"""The three stores together: started side by side, stopped together."""

from collections.abc import Callable, Iterator
from typing import Self

from devstack.artifacts import kafka_version
from devstack.deadline import Deadline, drive
from devstack.directory import STACK, DirectoryLock, prepare_directory
from devstack.errors import StackError
from devstack.kafka import KafkaServer
from devstack.kafka_probe import count_brokers
from devstack.kafka_users import KafkaWithUsers
from devstack.postgres import PostgresServer, postgres_answers, postgres_version
from devstack.server import Server
from devstack.settings import LocalSettings, Stores
from devstack.valkey import ValkeyServer, ValkeyWithUsers, redis_answers, redis_version
from devstack.valkey_cluster import ValkeyCluster

EXTERNAL_TIMEOUT_S = 10.0
# Below the directory of the stack.
KAFKA_FOLDER = "kafka"


class LocalStack:
    """Postgres, Valkey and Kafka on loopback, or the given ones in their place.

    Blocking. From asyncio: `stores = await asyncio.to_thread(stack.start)`, or enter it as a
    context manager outside of the event loop. Children die with this process, however it ends.
    """

    def __init__(self, settings: LocalSettings | None = None) -> None:
        """Describe the stack; nothing is started.

        Args:
            settings: None reads the environment.

        Raises:
            StackError: a variable has a bad value.
        """
        self.settings = settings or LocalSettings.from_env()
        self.directory = self.settings.directory.absolute()
        chosen = self.settings
        self._lock = DirectoryLock(self.directory, claimed_by=STACK)
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None
        self.valkey_cluster: ValkeyCluster | None = None
        self.kafka: KafkaServer | None = None
        if not chosen.postgres_dsn:
            self.postgres = PostgresServer(self.directory / "postgres", port=chosen.postgres_port)
        if not chosen.redis_url and chosen.cluster:
            self.valkey_cluster = ValkeyCluster(self.directory / "valkey-cluster")
        elif not chosen.redis_url:
            valkey = ValkeyWithUsers if chosen.secure else ValkeyServer
            self.valkey = valkey(self.directory / "valkey", port=chosen.redis_port)
        if not chosen.kafka_bootstrap:
            kafka = KafkaWithUsers if chosen.secure else KafkaServer
            self.kafka = kafka(self.directory / KAFKA_FOLDER, port=chosen.kafka_port)

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that are started here, in the order of starting."""
        nodes = self.valkey_cluster.nodes if self.valkey_cluster else ()
        return tuple(
            server
            for server in (self.postgres, self.valkey, *nodes, self.kafka)
            if server is not None
        )

    @property
    def stores(self) -> Stores:
        """Where the stores answer, once started."""
        chosen = self.settings
        valkey = self.valkey or self.valkey_cluster
        return Stores(
            postgres_dsn=self.postgres.url if self.postgres else chosen.postgres_dsn,
            redis_url=valkey.url if valkey else chosen.redis_url,
            kafka_bootstrap=self.kafka.url if self.kafka else chosen.kafka_bootstrap,
            redis_cluster=chosen.cluster,
        )

    def start(self) -> Stores:
        """Start all stores side by side and wait until each answers.

        Returns:
            Their addresses.

        Raises:
            StackError: one cannot be started or reached; nothing is left running.
        """
        prepare_directory(self.directory)
        self._lock.acquire()
        try:
            started = (self.postgres, self.valkey, self.valkey_cluster, self.kafka)
            drive([*(store.bring_up() for store in started if store), *self._external_waits()])
        except BaseException:
            self.stop()
            raise
        return self.stores

    def stop(self) -> None:
        """Stop what was started, last first; returns when all have ended."""
        for server in reversed(self.servers):
            server.stop()
        self._lock.release()

    def check(self) -> None:
        """Check that no store has died by itself.

        Raises:
            StackError: names the store and its log.
        """
        for store in (self.postgres, self.valkey, self.valkey_cluster, self.kafka):
            if store is not None:
                store.check()

    def components(self) -> dict[str, str]:
        """Ask the running stores what they are.

        Returns:
            e.g. {"postgres": "PostgreSQL 18.4", "redis": "Valkey 9.1.2",
            "kafka": "Apache Kafka 4.3.0"}; a given Kafka does not tell its version.

        Raises:
            StackError: one does not answer.
        """
        stores = self.stores
        return {
            "postgres": postgres_version(stores.postgres_dsn),
            "redis": redis_version(stores.redis_url),
            "kafka": f"Apache Kafka {kafka_version()}" if self.kafka else "Apache Kafka (given)",
        }

    def __enter__(self) -> Self:
        """Start all stores."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all stores."""
        self.stop()

    def _external_waits(self) -> Iterator[Iterator[None]]:
        dsn, url = self.settings.postgres_dsn, self.settings.redis_url
        bootstrap = self.settings.kafka_bootstrap
        if dsn:
            yield _wait_for(lambda: postgres_answers(dsn), "SECKILL_POSTGRES_DSN", "Postgres")
        if url:
            yield _wait_for(lambda: redis_answers(url), "SECKILL_REDIS_URL", "Redis")
        if bootstrap:
            yield _wait_for(
                lambda: count_brokers(bootstrap) > 0, "SECKILL_KAFKA_BOOTSTRAP", "Kafka"
            )


def _wait_for(answers: Callable[[], bool], variable: str, store: str) -> Iterator[None]:
    deadline = Deadline(EXTERNAL_TIMEOUT_S)
    while not answers():
        if deadline.passed:
            # Without the address: it may hold a password.
            raise StackError(
                f"no {store} answers within {EXTERNAL_TIMEOUT_S:.0f} s at the address in"
                f" {variable}: correct the address, or unset {variable} to have one started"
            )
        yield
