"""Whether the database keeps what it has acknowledged."""

from collections.abc import Sequence

from order_svc.database import Database

# The values that lose commits. synchronous_commit may wait for more than the local disk, never
# for less.
UNSAFE = {"synchronous_commit": "off", "fsync": "off", "full_page_writes": "off"}


async def unsafe_settings(database: Database) -> Sequence[str]:
    """A sentence for each setting with which a crash loses acknowledged commits.

    Raises:
        DependencyUnavailable: the database does not answer.
    """
    (row,) = await database.fetch("durability")
    return [f"{name} is {row[name]}" for name, unsafe in UNSAFE.items() if row[name] == unsafe]
