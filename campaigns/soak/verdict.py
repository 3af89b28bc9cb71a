"""Checks the database throughout a campaign, and all stores once everything has settled."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import grpc

from campaigns.soak.arena import Arena
from order_svc.audit.audit import audit_sale
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.faults.checker import Violation, check, check_database
from tests.kits.faults.cluster import events_topic
from tests.kits.faults.facts import Facts, OrderRow
from tests.kits.faults.history import History

LOOK_EVERY_S = 1.0
LOOK_TIMEOUT_S = 4.0
# Within this time after the last fault everything must have settled.
CONVERGE_S = 60.0
# Pending orders are overdue when their payment time has been over for so long.
OVERDUE_S = 5.0
# A sale whose payment time is longer may keep pending orders to the end.
SHORT_WINDOW_S = 30.0
PAGE = 1_000
# The database is away, or its connection is still busy with a look that took too long.
UNREADABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
SENTENCES_MAX = 200
_STATES = {
    value: name.removeprefix("ORDER_STATE_").lower() for name, value in order_pb2.OrderState.items()
}


@dataclass
class Looks:
    """How often the database was read during the faults, and how often it could not be."""

    done: int = 0
    missed: int = 0


@dataclass
class Judge:
    """Collects violations.

    Attributes:
        windows_s: payment time, by sku.
        states: orders by state at the last look.
        momentary: violations during the faults, with the second of the campaign.
    """

    arena: Arena
    histories: Mapping[str, History]
    windows_s: Mapping[str, float]
    looks: Looks = field(default_factory=Looks)
    states: Counter[str] = field(default_factory=Counter)
    momentary: dict[str, float] = field(default_factory=dict)

    async def watch(self) -> None:
        """Check what must hold at every moment, until cancelled."""
        while True:
            for sku in self.histories:
                await self._glance(sku)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _glance(self, sku: str) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                rows = await self.arena.reader.database(sku)
        except UNREADABLE:
            self.looks.missed += 1
            return
        self.looks.done += 1
        for violation in check_database(rows):
            if len(self.momentary) < SENTENCES_MAX:
                self.momentary.setdefault(f"{violation} ({sku})", self.arena.now_s)

    async def settle(self, *, deadline_s: float) -> list[str]:
        """Return what is wrong once everything has settled, or at the deadline.

        `deadline_s`: monotonic time.
        """
        while True:
            found, waiting = await self._look()
            if not found and not waiting:
                found = await self._audits()
            if not (found or waiting) or time.monotonic() > deadline_s:
                return found[:SENTENCES_MAX]
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> tuple[list[str], bool]:
        """Return (what is wrong now, whether orders wait for the end of their payment time)."""
        kafka = await self.arena.reader.kafka()
        events = await self._events()
        found: list[str] = []
        waiting = False
        self.states.clear()
        for sku, history in self.histories.items():
            facts = await self.arena.reader.facts(sku, kafka=kafka)
            facts = replace(
                facts,
                overdue=await self._overdue(sku),
                events=_of(facts.orders, events),
                shown=await self._shown(facts.orders),
            )
            found += _tell(check(facts, history), sku)
            self.states.update(row.status for row in facts.orders)
            short = self.windows_s[sku] < SHORT_WINDOW_S
            waiting = waiting or (short and _pending(facts))
        return found, waiting

    async def _events(self) -> set[tuple[str, str]]:
        """Return (order number, kind) of all order events."""
        found = set()
        for record in await self.arena.reader.messages(events_topic(self.arena.name)):
            headers: dict[str, bytes] = dict(record.headers)
            order_no, kind, *_ = headers["ce_id"].decode().split("/")
            found.add((order_no, kind))
        return found

    async def _overdue(self, sku: str) -> frozenset[str]:
        rows = await self.arena.reader.sql.fetch(
            "SELECT order_no FROM orders WHERE sku = $1 AND status = 'pending'"
            " AND expires_at < now() - make_interval(secs => $2)",
            sku,
            OVERDUE_S,
        )
        return frozenset(row["order_no"] for row in rows)

    async def _shown(self, rows: Sequence[OrderRow]) -> dict[str, str]:
        """Return order number → state as callers are shown it; without those not answered."""
        shown: dict[str, str] = {}
        stub = order_pb2_grpc.OrderServiceStub(self.arena.channels["order"])
        for start in range(0, len(rows), PAGE):
            numbers = [row.order_no for row in rows[start : start + PAGE]]
            request = order_pb2.BatchGetOrdersRequest(order_nos=numbers)
            try:
                answer = await stub.BatchGetOrders(request, timeout=LOOK_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                continue
            orders = (order_pb2.Order.FromString(text) for text in answer.orders if text)
            shown |= {order.order_no: _STATES[order.state] for order in orders}
        return shown

    async def _audits(self) -> list[str]:
        """Return a sentence for each sale that `seckill audit` disproves."""
        found = []
        for sku in self.histories:
            audit = await audit_sale(self.arena.direct.postgres_dsn, sku)
            if audit.wrong is not None:
                found.append(f"C: the audit disproves it: {audit.wrong.explanation} ({sku})")
        return found


def _pending(facts: Facts) -> bool:
    return any(row.status == "pending" for row in facts.orders)


def _of(rows: Iterable[OrderRow], events: set[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    numbers = {row.order_no for row in rows}
    return frozenset(event for event in events if event[0] in numbers)


def _tell(violations: Iterable[Violation], sku: str) -> list[str]:
    return [f"{violation} ({sku})" for violation in violations]
