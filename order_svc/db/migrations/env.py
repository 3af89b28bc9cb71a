"""Alembic runs this file; the connection comes from `order_svc.db.migrate`."""

from alembic import context
from sqlalchemy import Connection, text

# Any constant will do, as long as every replica takes the same one.
ADVISORY_LOCK_KEY = 7_325_455

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    # The second of two replicas waits here, and then finds nothing left to do.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK_KEY})
    context.run_migrations()
