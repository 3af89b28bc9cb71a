"""Checks that the database keeps what it has acknowledged."""

from collections.abc import Sequence

from order_svc.db.database import Database

# The values that lose commits. synchronous_commit may wait for more than the local disk, never
# for less.
UNSAFE = {"synchronous_commit": "off", "fsync": "off", "full_page_writes": "off"}


async def unsafe_settings(database: Database) -> Sequence[str]:
    """Return a sentence for each setting with which a crash loses acknowledged commits.

    Raises:
        DependencyUnavailable: the database does not answer.
    """
    (row,) = await database.fetch("db/durability")
    return [f"{name} is {row[name]}" for name, unsafe in UNSAFE.items() if row[name] == unsafe]
