"""Bring the order database to the newest schema: `python -m order_svc.db.migrate`.

Running it again changes nothing, and two replicas may run it at once: an advisory lock lets one
of them work. The revisions are raw SQL; alembic keeps count of them.
"""

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command, op
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from order_svc.db.sessions import PREPARED_NAME
from seckill.runtime.settings import load
from seckill.runtime.store_settings import PostgresSettings

_MIGRATIONS = Path(__file__).with_name("migrations")


def run_script(name: str) -> None:
    """Run an SQL file of many statements inside the revision's transaction.

    Args:
        name: a file beside the revisions, e.g. "0001_orders.sql".
    """
    script = (_MIGRATIONS / "versions" / name).read_text(encoding="utf-8")
    # Past SQLAlchemy, which prepares statements and so takes only one at a time. The transaction
    # is the same: it started when the advisory lock was taken.
    op.get_bind().connection.run_async(lambda connection: connection.execute(script))


def migrations_config() -> Config:
    """Return Alembic's configuration: where the revisions are, nothing else."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _upgrade(connection: Connection) -> None:
    config = migrations_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def migrate(dsn: str, *, tls: ssl.SSLContext | None = None) -> None:
    """Bring a database to the newest schema, in one transaction; a process runs one at a time.

    Args:
        dsn: postgresql:// address of the database, as asyncpg reads it.
        tls: how the connection is encrypted; None leaves it to the address.

    Raises:
        SQLAlchemyError, asyncpg.PostgresError, OSError: nothing was changed.
    """

    def connect() -> Any:
        # The address goes to asyncpg as it is: the services read it the same way.
        return engine.dialect.loaded_dbapi.connect(
            async_creator_fn=lambda: asyncpg.connect(dsn, ssl=tls, statement_cache_size=0),
            # No statement has a name: a pooler in transaction mode would keep it for others.
            prepared_statement_cache_size=0,
            prepared_statement_name_func=lambda: PREPARED_NAME,
        )

    engine = create_async_engine("postgresql+asyncpg://", creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def main() -> None:
    """Migrate the database of SECKILL_POSTGRES_DSN; exit with 1 if that fails."""
    settings = load(PostgresSettings)
    try:
        asyncio.run(migrate(settings.postgres_dsn.get_secret_value(), tls=settings.postgres_tls()))
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        sys.stderr.write(f"the order database was not migrated: {error}\n")
        sys.exit(1)
    sys.stderr.write("the order database has the newest schema\n")


if __name__ == "__main__":
    main()
