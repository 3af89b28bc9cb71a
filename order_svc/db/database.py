"""The pool of database connections, and the database's faults as ours."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog

from order_svc import metrics
from order_svc.db.sessions import PREPARED_NAME, session_options, transaction_settings
from order_svc.db.settings import DatabaseSettings
from order_svc.db.statements import statement
from seckill.errors import DependencyUnavailable

# Revision that this release needs. A newer one is fine: revisions only add.
SCHEMA_VERSION = "0015"
SCHEMA_POLL_S = 0.5
RETRY_DELAY_S = 0.01
_POOLER_ADVICE = "; behind a pooler in transaction mode set SECKILL_POSTGRES_POOLER=transaction"

T = TypeVar("T")
log = structlog.get_logger()
Row: TypeAlias = asyncpg.Record
Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy
PreparedStatement: TypeAlias = asyncpg.prepared_stmt.PreparedStatement

# Nothing was done, and the transaction may run again: it conflicted with another, or a migration
# has changed what a cached statement returns. asyncpg has dropped its caches then.
_REPEATABLE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
_AWAY = (
    *_REPEATABLE,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    # After a failover, until the address leads to the new primary.
    asyncpg.ReadOnlySQLTransactionError,
    # Sessions that stood idle in a transaction are ended by the server.
    asyncpg.IdleInTransactionSessionTimeoutError,
    # What asyncpg raises for a session that was ended just before a statement of ours.
    asyncpg.InternalClientError,
    # A password or a certificate that is not valid now: it may have been changed.
    asyncpg.InvalidAuthorizationSpecificationError,
)


class SchemaMissing(Exception):
    """The database does not have the schema that this release needs."""


@contextmanager
def database_faults() -> Iterator[None]:
    """Turn what asyncpg raises if the database does not answer into DependencyUnavailable."""
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
    """Runs statements. Raises DependencyUnavailable if the database does not answer."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        set_local: str,
        timeout_s: float,
        retries_max: int,
        rng: random.Random,
    ) -> None:
        """Take a pool.

        Args:
            pool: the connections.
            set_local: statements with which each transaction starts, "" for none.
            timeout_s: how long to wait for a free connection.
            retries_max: how often a transaction is repeated after a conflict.
            rng: adds jitter to the pauses before repetitions.
        """
        self._pool = pool
        self._set_local = set_local
        self._timeout_s = timeout_s
        self._retries_max = retries_max
        self._rng = rng

    async def fetch(self, name: str, *arguments: Any) -> list[Row]:
        """Run one statement of `sql/` in a transaction of its own; returns its rows."""

        async def work(connection: Connection) -> list[Row]:
            rows: list[Row] = await connection.fetch(statement(name), *arguments)
            return rows

        if self._set_local:
            # Settings reach the session that a pooler lends us in a transaction only.
            return await self.transact(work)
        return await self._retrying(work)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction; it may run again, e.g. after a deadlock."""

        async def transaction(connection: Connection) -> T:
            async with connection.transaction(), self._leaving(connection):
                await self._set_up(connection)
                return await work(connection)

        return await self._retrying(transaction)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Open a read-only transaction whose statements all see the same moment.

        It cannot run again, so `prepare` its statements: what that returns is never stale.
        """
        with database_faults():
            async with (
                self._connected() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
                self._leaving(connection),
            ):
                await self._set_up(connection)
                yield connection

    async def check_writable(self) -> None:
        """Raise DependencyUnavailable unless the database answers and takes writes."""

        async def work(connection: Connection) -> None:
            if await connection.fetchval("SHOW transaction_read_only") == "on":
                raise asyncpg.ReadOnlySQLTransactionError("the session is read-only")

        with database_faults():
            await self._once(work)

    async def _set_up(self, connection: Connection) -> None:
        if self._set_local:
            await connection.execute(self._set_local)

    async def _retrying(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        with database_faults():
            for attempt in range(self._retries_max):
                try:
                    return await self._once(work)
                except _REPEATABLE:
                    # With jitter: transactions that conflicted must not meet again.
                    await asyncio.sleep(RETRY_DELAY_S * 2**attempt * self._rng.uniform(0.5, 1))
            return await self._once(work)

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._attempt(work)
        except asyncpg.ReadOnlySQLTransactionError as error:
            # The server has become a replica, and nothing was done. Through the address a new
            # connection may reach the new primary; sessions stay where they are.
            await self._replace_connections(error)
        return await self._attempt(work)

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._connected() as connection:
            return await work(connection)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """Take a connection of the pool for the time of the block."""
        asked_s = time.perf_counter()
        async with self._pool.acquire(timeout=self._timeout_s) as connection:
            taken_s = time.perf_counter()
            metrics.DATABASE_CONNECTION_WAIT_SECONDS.observe(taken_s - asked_s)
            try:
                async with self._leaving(connection):
                    yield connection
            finally:
                metrics.DATABASE_CONNECTION_HOLD_SECONDS.observe(time.perf_counter() - taken_s)

    @asynccontextmanager
    async def _leaving(self, connection: Connection) -> AsyncIterator[None]:
        """Leave a server that does not answer.

        asyncpg would ask it to cancel the statement, and wait for that as long again; then each
        idle connection would make one more call wait.
        """
        try:
            yield
        except TimeoutError as error:
            connection.terminate()
            await self._replace_connections(error)
            raise

    async def _replace_connections(self, error: Exception) -> None:
        log.warning("database connections replaced", error=repr(error))
        # Left to expire, an idle one would be closed by a task of asyncpg's that waits for a frozen
        # server, and whose error no one takes.
        for holder in self._pool._holders:  # noqa: SLF001 - there is no public way to them
            if holder.is_connected() and holder.is_idle():
                holder.terminate()
        await self._pool.expire_connections()


async def prepare(
    connection: Connection, name: str, *, timeout_s: float | None = None
) -> PreparedStatement:
    """Prepare a statement of `sql/` in a transaction, until the next one is prepared."""
    prepared: PreparedStatement = await connection.prepare(
        statement(name), name=PREPARED_NAME, timeout=timeout_s
    )
    return prepared


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Open a pool of connections; nothing is connected before the first statement."""
    timeout_s = settings.postgres_timeout_s
    async with asyncpg.create_pool(
        settings.postgres_dsn.get_secret_value(),
        ssl=settings.postgres_tls(),
        min_size=0,
        max_size=settings.postgres_connections_max,
        timeout=timeout_s,
        command_timeout=timeout_s,
        **session_options(settings),
    ) as pool:
        yield Database(
            pool,
            set_local=transaction_settings(settings),
            timeout_s=timeout_s,
            retries_max=settings.order_conflict_retries_max,
            rng=random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )


async def wait_for_schema(database: Database, *, timeout_s: float) -> None:
    """Return once the database answers and has the schema.

    Args:
        database: the database.
        timeout_s: how long to wait for it to be reachable and migrated.

    Raises:
        SchemaMissing: it did not within that time; the message names the remedy.
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
            " if it is up, run `python -m order_svc.db.migrate`"
        ) from None


async def _schema_problem(database: Database) -> str:
    try:
        (row,) = await database.fetch("db/schema_version")
    except DependencyUnavailable as error:
        advice = _POOLER_ADVICE if "startup parameter" in str(error.__cause__) else ""
        return f"{error}: {error.__cause__}{advice}"
    except asyncpg.UndefinedTableError:
        return "it was never migrated"
    except asyncpg.PostgresError as error:
        return str(error)
    if row["version"] is None or row["version"] < SCHEMA_VERSION:
        return f"its revision is {row['version']}, this release needs {SCHEMA_VERSION}"
    if row["statement_timeout"] == "0":
        return f"its sessions do not take our settings{_POOLER_ADVICE}"
    return ""
