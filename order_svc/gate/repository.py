"""Changes the rules of the gate: each in one transaction with its revision and its record."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from order_svc.db.database import Connection, Database, Row, prepare
from order_svc.db.statements import statement
from order_svc.gate.model import (
    NewEntry,
    asks_for_nothing,
    change_of,
    entry_of,
    entry_text,
    policy_columns,
    policy_of,
    policy_text,
)
from seckill.errors import GateEntryNotFound, GateFull, InvalidField, SaleNotFound
from seckill.v1 import gate_pb2 as pb

USER_AGENT = "user_agent"


class GateRepository:
    """Reads and changes the rules. Raises DependencyUnavailable without the database."""

    def __init__(
        self, database: Database, *, entries_max: int, user_agents_max: int, policies_max: int
    ) -> None:
        """
        Args:
            entries_max: entries of both lists together.
            user_agents_max: of these, entries that name user agents: each call is compared with
                all of them.
            policies_max: sales with a policy.
        """
        self._database = database
        self._entries_max = entries_max
        self._user_agents_max = user_agents_max
        self._policies_max = policies_max

    async def limits(self) -> tuple[int, dict[str, Row]]:
        """Return the revision, and the rows of limits that are set, by name."""
        async with self._database.reading() as connection:
            revision = await _revision(connection)
            rows = await _fetch(connection, "gate/list_limits")
        return revision, {row["name"]: row for row in rows}

    async def set_limits(self, limits: Mapping[str, float], *, operator: str) -> int:
        """Set limits by name; returns the revision."""

        async def work(connection: Connection) -> int:
            revision = await _locked(connection)
            rows = await connection.fetch(statement("gate/list_limits"))
            known = {row["name"]: row["value"] for row in rows}
            before = {name: known.get(name) for name in limits}
            if before == limits:
                return revision
            await connection.execute(
                statement("gate/set_limits"), list(limits), list(limits.values()), operator
            )
            texts = json.dumps(before), json.dumps(dict(limits))
            return await _note(connection, "limits_set", operator, *texts)

        return await self._database.transact(work)

    async def reset_limits(
        self, names: Sequence[str], *, operator: str
    ) -> tuple[int, Sequence[str]]:
        """Forget limits, all without names; returns the revision and the names that were set."""

        async def work(connection: Connection) -> tuple[int, Sequence[str]]:
            revision = await _locked(connection)
            rows = await connection.fetch(statement("gate/reset_limits"), list(names) or None)
            before = {row["name"]: row["value"] for row in rows}
            if before:
                texts = json.dumps(before), json.dumps(dict.fromkeys(before))
                revision = await _note(connection, "limits_reset", operator, *texts)
            return revision, sorted(before)

        return await self._database.transact(work)

    async def add_entry(self, entry: NewEntry, *, operator: str) -> tuple[int, pb.GateEntry]:
        """Add an entry in the place of one of the same kind and value; returns the revision too.

        Raises:
            InvalidField: it ends before it begins.
            GateFull: there are as many entries as may be.
        """

        async def work(connection: Connection) -> tuple[int, pb.GateEntry]:
            await _locked(connection)
            await connection.execute(statement("gate/forget_expired"))
            await self._require_room(connection, entry)
            removed = await connection.fetchrow(
                statement("gate/remove_entry"), entry.kind, entry.value
            )
            row = await connection.fetchrow(statement("gate/add_entry"), *entry, operator)
            if entry.expires_at is not None and entry.expires_at <= row["at"]:
                raise InvalidField([("expire_time", "must be in the future")])
            texts = entry_text(removed), entry_text(row)
            revision = await _note(connection, "entry_added", operator, *texts)
            return revision, entry_of(row)

        return await self._database.transact(work)

    async def _require_room(self, connection: Connection, entry: NewEntry) -> None:
        counts = await connection.fetchrow(statement("gate/count_entries"), entry.kind, entry.value)
        if counts["entries"] >= self._entries_max:
            raise GateFull(f"the lists have {self._entries_max} entries, as many as they may")
        if entry.kind == USER_AGENT and counts["of_kind"] >= self._user_agents_max:
            raise GateFull(f"{self._user_agents_max} entries name user agents, as many as may")

    async def remove_entry(
        self, kind: str, value: str, *, operator: str
    ) -> tuple[int, pb.GateEntry]:
        """Take an entry off its list; returns the revision too. Raises GateEntryNotFound."""

        async def work(connection: Connection) -> tuple[int, pb.GateEntry]:
            await _locked(connection)
            row = await connection.fetchrow(statement("gate/remove_entry"), kind, value)
            if row is None:
                raise GateEntryNotFound
            texts = entry_text(row), entry_text(None)
            revision = await _note(connection, "entry_removed", operator, *texts)
            return revision, entry_of(row)

        return await self._database.transact(work)

    async def entries(self, *, which: str, kind: str, after: int, limit: int) -> list[pb.GateEntry]:
        """Return up to `limit` entries in force above the id `after`.

        Args:
            which: "allow" or "deny"; "" for both lists.
            kind: "" for all.
        """
        rows = await self._database.fetch("gate/list_entries", which, kind, after, limit)
        return [entry_of(row) for row in rows]

    async def set_policy(self, policy: pb.SalePolicy, *, operator: str) -> int:
        """Set the policy of a sale; returns the revision.

        Raises:
            SaleNotFound: the sale is not registered.
            GateFull: there are as many policies as may be.
        """

        async def work(connection: Connection) -> int:
            revision = await _locked(connection)
            before = await _policy(connection, policy.sku)
            if before == policy:
                return revision
            await connection.execute(statement("gate/remove_policy"), policy.sku)
            if not asks_for_nothing(policy):
                count = await connection.fetchval(statement("gate/count_policies"))
                if count >= self._policies_max:
                    raise GateFull(f"{count} sales have a policy, as many as may")
                columns = policy_columns(policy).values()
                await connection.execute(statement("gate/add_policy"), *columns)
            texts = policy_text(before), policy_text(policy)
            return await _note(connection, "policy_set", operator, *texts)

        return await self._database.transact(work)

    async def policy(self, sku: str) -> pb.SalePolicy:
        """Return the policy of a sale. Raises SaleNotFound."""
        async with self._database.reading() as connection:
            return await _policy(connection, sku)

    async def policies(self, *, after: str, limit: int) -> list[pb.SalePolicy]:
        """Return up to `limit` policies above the sku `after`."""
        return [
            policy_of(row) for row in await self._database.fetch("gate/list_policies", after, limit)
        ]

    async def changes(self, *, before: int, limit: int) -> list[pb.GateChange]:
        """Return up to `limit` changes below the revision `before`, latest first."""
        return [
            change_of(row) for row in await self._database.fetch("gate/list_changes", before, limit)
        ]


async def _fetch(connection: Connection, name: str, *arguments: Any) -> list[Row]:
    # Prepared: in a transaction that reads only, what `prepare` returns is never stale.
    prepared = await prepare(connection, name)
    rows: list[Row] = await prepared.fetch(*arguments)
    return rows


async def _revision(connection: Connection) -> int:
    return int((await _fetch(connection, "gate/find_revision"))[0]["revision"])


async def _locked(connection: Connection) -> int:
    """Lock the rules, and return their revision."""
    return int(await connection.fetchval(statement("gate/lock_revision")))


async def _note(connection: Connection, kind: str, operator: str, before: str, after: str) -> int:
    revision = await connection.fetchval(
        statement("gate/note_change"), kind, operator, before, after
    )
    return int(revision)


async def _policy(connection: Connection, sku: str) -> pb.SalePolicy:
    if not await _fetch(connection, "sales/find_sale", sku):
        raise SaleNotFound(metadata={"sku": sku})
    rows = await _fetch(connection, "gate/find_policy", sku)
    return policy_of(rows[0]) if rows else pb.SalePolicy(sku=sku)
