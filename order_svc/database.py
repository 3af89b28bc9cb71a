"""The pool of database connections, and the database's faults as ours."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from order_svc.settings import OrderSettings
from order_svc.statements import statement
from seckill.errors import DependencyUnavailable

# Revision that this release needs. A newer one is fine: revisions only add.
SCHEMA_VERSION = "0005"
SCHEMA_POLL_S = 0.5
RETRY_DELAY_S = 0.01

T = TypeVar("T")
Row: TypeAlias = asyncpg.Record
Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy

# Two transactions were in each other's way; the one that failed may run again.
_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_AWAY = (
    *_CONFLICTS,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    # After a failover, until the new primary is found.
    asyncpg.ReadOnlySQLTransactionError,
    # Sessions that stood idle in a transaction are ended by the server.
    asyncpg.IdleInTransactionSessionTimeoutError,
    # What asyncpg says of a session that was ended just before a statement of ours.
    asyncpg.InternalClientError,
)


class SchemaMissing(Exception):
    """The database has not the schema that this release needs."""


@contextmanager
def database_faults() -> Iterator[None]:
    """Turn what asyncpg raises when the database is away into DependencyUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise DependencyUnavailable("the database does not answer") from error
    except asyncpg.InterfaceError as error:
        # A closed connection is one; so is a value of the wrong type, which is our own defect.
        if isinstance(error, asyncpg.exceptions.DataError | ValueError | TypeError):
            raise
        raise DependencyUnavailable("the connection to the database broke") from error


class Database:
    """Runs statements. Raises DependencyUnavailable where the database does not answer."""

    def __init__(
        self, pool: asyncpg.Pool, *, timeout_s: float, retries_max: int, rng: random.Random
    ) -> None:
        """Wire it.

        Args:
            pool: the connections.
            timeout_s: how long to wait for a free connection.
            retries_max: how often a transaction is repeated after a deadlock.
            rng: spreads the repetitions.
        """
        self._pool = pool
        self._timeout_s = timeout_s
        self._retries_max = retries_max
        self._rng = rng

    async def fetch(self, name: str, *arguments: Any) -> list[Row]:
        """Run one statement of `sql/` in a transaction of its own; returns its rows."""

        async def work(connection: Connection) -> list[Row]:
            rows: list[Row] = await connection.fetch(statement(name), *arguments)
            return rows

        return await self._retrying(work)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction; it may run again after a deadlock."""

        async def transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._retrying(transaction)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection in a read-only transaction whose statements all see one moment."""
        with database_faults():
            async with (
                self._pool.acquire(timeout=self._timeout_s) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield connection

    async def ping(self) -> None:
        """Raises DependencyUnavailable unless the database answers."""
        with database_faults():
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                await connection.execute("SELECT 1")

    async def _retrying(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        with database_faults():
            for attempt in range(self._retries_max):
                try:
                    return await self._once(work)
                except _CONFLICTS:
                    # Doubling, and different for each of those that met.
                    await asyncio.sleep(RETRY_DELAY_S * 2**attempt * self._rng.uniform(0.5, 1))
            return await self._once(work)

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.acquire(timeout=self._timeout_s) as connection:
            return await work(connection)


@asynccontextmanager
async def open_database(settings: OrderSettings) -> AsyncIterator[Database]:
    """A pool of connections; nothing is connected before the first statement."""
    timeout_s = settings.postgres_timeout_s
    timeout_ms = str(int(timeout_s * 1000))
    async with asyncpg.create_pool(
        settings.postgres_dsn.get_secret_value(),
        min_size=0,
        max_size=settings.postgres_connections_max,
        timeout=timeout_s,
        command_timeout=timeout_s,
        server_settings={
            "application_name": "order_svc",
            # The server gives up when we do: nobody holds the lock of a sale for longer.
            "statement_timeout": timeout_ms,
            "idle_in_transaction_session_timeout": timeout_ms,
            # Tables grow from nothing during a sale; a plan kept from then would scan them.
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
        },
    ) as pool:
        yield Database(
            pool,
            timeout_s=timeout_s,
            retries_max=settings.order_conflict_retries_max,
            rng=random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )


async def wait_for_schema(database: Database, *, timeout_s: float) -> None:
    """Return once the database answers and has the schema.

    Args:
        database: where to look.
        timeout_s: how long to wait for it to be reachable and migrated.

    Raises:
        SchemaMissing: it was not within that time; the message names the remedy.
    """
    problem = "no answer"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                problem = await _schema_problem(database)
                if not problem:
                    return
                await asyncio.sleep(SCHEMA_POLL_S)
    except TimeoutError:
        raise SchemaMissing(
            f"the order database is not ready after {timeout_s:g} s ({problem});"
            " if it is up, run `python -m order_svc.migrate`"
        ) from None


async def _schema_problem(database: Database) -> str:
    try:
        version = (await database.fetch("schema_version"))[0]["version"]
    except DependencyUnavailable as error:
        return str(error)
    except asyncpg.UndefinedTableError:
        return "it was never migrated"
    if version is None or version < SCHEMA_VERSION:
        return f"its revision is {version}, this release needs {SCHEMA_VERSION}"
    return ""
