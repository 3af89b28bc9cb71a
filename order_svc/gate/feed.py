"""Keeps the rules of the gate in memory, and streams them and their changes to gateways."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import islice

import structlog

from order_svc import metrics
from order_svc.db.database import Connection, Database, Row, prepare
from order_svc.gate.model import entry_of, policy_of
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.v1 import gate_pb2 as pb

# Entries, removals and policies in one message: about 300 KB of the longest of them.
MESSAGE_ITEMS_MAX = 1_000
# More than any setting allows.
ROWS_MAX = 2**31 - 1
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of one revision, never changed.

    Attributes:
        revision: -1 before any was read.
        limits: value by name.
        entries: by id, as gateways get them.
        policies: by sku.
    """

    revision: int = -1
    limits: dict[str, float] = field(default_factory=dict)
    entries: dict[int, pb.GateEntry] = field(default_factory=dict)
    policies: dict[str, pb.SalePolicy] = field(default_factory=dict)


class GateRulesFeed:
    """Reads the revision again and again, and all rules when it has grown, for all watchers."""

    def __init__(
        self, database: Database, *, interval_s: float, stale_s: float, streams_max: int
    ) -> None:
        """
        Args:
            interval_s: how often the revision is read.
            stale_s: streams end when it could not be read for so long; another replica may.
            streams_max: streams open at once; more are Overloaded.
        """
        self._database = database
        self._interval_s = interval_s
        self._stale_s = stale_s
        self._streams_max = streams_max
        self._rules = RuleSet()
        self._read_s = -math.inf
        self._watchers: set[asyncio.Event] = set()
        self._hint = asyncio.Event()

    def changed(self) -> None:
        """Have the revision read now: this replica has changed the rules."""
        self._hint.set()

    async def run(self) -> None:
        """Follow the database until cancelled; without it keep what is known."""
        loop = asyncio.get_running_loop()
        self._read_s = loop.time()
        while True:
            try:
                await self.run_once()
                self._read_s = loop.time()
            except DependencyUnavailable as error:
                log.warning("gate rules not read", error=str(error))
                if self._is_stale():
                    self._wake()
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._hint.wait()
            except TimeoutError:
                pass
            self._hint.clear()

    async def run_once(self) -> None:
        """Read the revision, and the rules if it is another one. Raises DependencyUnavailable."""
        (row,) = await self._database.fetch("gate/find_revision")
        if row["revision"] == self._rules.revision:
            return
        self._rules = await read_rules(self._database)
        metrics.GATE_RULES_REVISION.set(self._rules.revision)
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def _is_stale(self) -> bool:
        return asyncio.get_running_loop().time() - self._read_s > self._stale_s

    async def stream(self) -> AsyncIterator[pb.WatchGateRulesResponse]:
        """Yield all rules, then what changes, until the generator is closed.

        Raises:
            DependencyUnavailable: the rules have not been read for too long.
            Overloaded: too many streams are open.
        """
        if len(self._watchers) >= self._streams_max:
            raise Overloaded("too many streams are open")
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            told = RuleSet()
            while True:
                rules = self._rules
                if self._is_stale():
                    raise DependencyUnavailable("the rules cannot be read")
                if rules.revision != told.revision:
                    for message in messages(told, rules):
                        yield message
                    told = rules
                    continue
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.discard(changed)


async def read_rules(database: Database) -> RuleSet:
    """Read all rules as of one moment; expired entries are left out."""
    async with database.reading() as connection:
        (revision,) = await _fetch(connection, "find_revision")
        limits = await _fetch(connection, "list_limits")
        entries = await _fetch(connection, "list_entries", "", "", 0, ROWS_MAX)
        policies = await _fetch(connection, "list_policies", "", ROWS_MAX)
    return RuleSet(
        revision["revision"],
        {row["name"]: row["value"] for row in limits},
        {row["id"]: _told(row) for row in entries},
        {row["sku"]: policy_of(row) for row in policies},
    )


async def _fetch(connection: Connection, name: str, *arguments: object) -> list[Row]:
    prepared = await prepare(connection, f"gate/{name}")
    rows: list[Row] = await prepared.fetch(*arguments)
    return rows


def _told(row: Row) -> pb.GateEntry:
    """Return the entry as gateways get it: who added it and why stays here."""
    entry = entry_of(row)
    for name in ("reason", "operator", "create_time"):
        entry.ClearField(name)
    return entry


def messages(known: RuleSet, rules: RuleSet) -> Iterator[pb.WatchGateRulesResponse]:
    """Return what a watcher who knows `known` is told to know `rules`, in messages not too large.

    A watcher who knows nothing is told everything.
    """
    entries = (entry for number, entry in rules.entries.items() if number not in known.entries)
    removed = (number for number in known.entries if number not in rules.entries)
    policies = _changed_policies(known, rules)
    snapshot = known.revision < 0
    while True:
        message = pb.WatchGateRulesResponse(revision=rules.revision, snapshot=snapshot, more=True)
        message.entries.extend(islice(entries, MESSAGE_ITEMS_MAX))
        message.removed_entry_ids.extend(islice(removed, MESSAGE_ITEMS_MAX))
        message.policies.extend(islice(policies, MESSAGE_ITEMS_MAX))
        full = max(len(message.entries), len(message.removed_entry_ids), len(message.policies))
        if full < MESSAGE_ITEMS_MAX:
            break
        yield message
        snapshot = False
    message.more = False
    for name, value in rules.limits.items():
        message.limits.add(name=name, value=value)
    yield message


def _changed_policies(known: RuleSet, rules: RuleSet) -> Iterator[pb.SalePolicy]:
    for sku, policy in rules.policies.items():
        if known.policies.get(sku) != policy:
            yield policy
    for sku in known.policies:
        if sku not in rules.policies:
            yield pb.SalePolicy(sku=sku)
