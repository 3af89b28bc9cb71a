"""Which Redis primary may promise units (docs/adr/0019).

Each shard of a Redis Cluster has a generation of its own; a Redis on its own is the shard "". A
primary is told by its replication id. Its data is told by a token, which is kept in Redis: a
replica and a server that starts from its files have it, and one that was left behind has not.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import structlog

from order_svc.db.database import Connection, Database, Row
from order_svc.db.statements import statement

# A primary with stale data becomes current once the current one has been without a lease for so
# long: nobody is connected to that one any more. Its sales are discarded and rebuilt.
ABANDONED_AFTER_S = 10.0
# Superseded replication ids that are remembered. Who is forgotten still lacks the token.
SUPERSEDED_MAX = 1_000
log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Store:
    """A Redis primary, as ConfirmStoreRequest describes it."""

    replication_id: str
    previous_replication_id: str
    run_id: str
    token: str
    mesh_id: str
    empty: bool
    shard: str = ""


@dataclass(frozen=True, kw_only=True)
class Current:
    """The current generation.

    Attributes:
        token: what the primary must keep.
        mesh_id: what it must keep beside that.
        wait_s: seconds until it may promise units.
        discard: whether its sales are stale until it keeps the token.
    """

    generation: int
    token: str
    mesh_id: str
    wait_s: float
    discard: bool


@dataclass(frozen=True)
class Other:
    """The primary is not the current one.

    Attributes:
        generation: the current one.
        foreign: whether the primary is another mesh's.
    """

    generation: int
    foreign: bool = False


class StoreGeneration:
    """Keeps the generation. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database, *, abandoned_after_s: float = ABANDONED_AFTER_S) -> None:
        """`abandoned_after_s`: seconds without a lease after which a stale primary may follow."""
        self._database = database
        self._abandoned_after = timedelta(seconds=abandoned_after_s)

    async def confirm(self, store: Store, *, lease_s: float) -> Current | Other:
        """Extend the lease of a primary if it is current, or can become current now.

        Args:
            lease_s: seconds for which the caller promises units.

        Returns:
            The generation, or that another store is current.
        """
        lease = timedelta(seconds=lease_s)

        async def confirm_or_claim(connection: Connection) -> Current | Other:
            current = await _extend(connection, store, lease=lease)
            return current or await self._claim(connection, store, lease=lease)

        return await self._database.transact(confirm_or_claim)

    async def _claim(
        self, connection: Connection, store: Store, *, lease: timedelta
    ) -> Current | Other:
        """Let the primary become current, if it may; another caller may have done so meanwhile."""
        if store.shard:
            await connection.execute(statement("sales/add_shard"), store.shard)
        await connection.execute(statement("sales/lock_store"), store.shard)
        if current := await _extend(connection, store, lease=lease):
            return current
        row = await connection.fetchrow(
            statement("sales/find_store"), store.replication_id, store.shard
        )
        if store.mesh_id not in ("", row["mesh_id"]):
            return Other(row["generation"], foreign=True)
        if row["other_kind"]:
            return Other(row["generation"])
        succeeds = _succeeds(store, row)
        if not succeeds and row["silent"] < self._abandoned_after:
            return Other(row["generation"])
        await connection.execute(statement("sales/supersede_store"), SUPERSEDED_MAX, store.shard)
        raised = await connection.fetchrow(
            statement("sales/raise_generation"),
            store.replication_id,
            store.run_id,
            uuid.uuid4().hex,
            lease,
            not succeeds,
            store.shard,
        )
        log.warning(
            "store generation raised",
            generation=raised["generation"],
            shard=store.shard,
            replication_id=store.replication_id,
            discard=raised["discard"],
        )
        return _current(raised)


async def _extend(connection: Connection, store: Store, *, lease: timedelta) -> Current | None:
    """Extend the lease of a primary; None if it is not current.

    It is a write, so no replica of the database can answer it from the past.
    """
    row = await connection.fetchrow(
        statement("sales/confirm_store"),
        store.replication_id,
        store.run_id,
        store.token,
        lease,
        store.mesh_id,
        store.shard,
    )
    return None if row is None else _current(row)


def _succeeds(store: Store, current: Row) -> bool:
    """Return whether the current primary's data, or none at all, is what `store` has."""
    if current["generation"] == 0 or store.token == current["token"]:
        # Started again from its files, promoted with all of it, or given it by replication.
        return True
    if current["superseded"]:
        return False
    if store.empty or store.previous_replication_id == current["replication_id"]:
        # Nothing can be sold twice from no sales. And a replica that was promoted before it had the
        # token is what an asynchronous failover leaves.
        return True
    # Nothing was promised yet under the current token.
    return not current["settled"] and store.token == current["previous_token"]


def _current(row: Row) -> Current:
    return Current(
        generation=row["generation"],
        token=row["token"],
        mesh_id=row["mesh_id"],
        wait_s=max(0.0, row["wait"].total_seconds()),
        discard=row["discard"],
    )
