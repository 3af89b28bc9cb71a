"""Looks at the stores all through a campaign, and judges them when everything has settled."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import grpc

from order_svc.audit import audit_sale
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.faults.checker import Violation, check, check_books
from tests.faults.facts import Facts, OrderRow
from tests.faults.history import History
from tests.faults.line import events_topic
from tests.soak.arena import Arena

LOOK_EVERY_S = 1.0
LOOK_TIMEOUT_S = 4.0
# Everything must be settled so long after the last fault.
CONVERGE_S = 60.0
# Pending orders are overdue when their payment time has been over for so long.
OVERDUE_S = 5.0
# A sale whose payment time is longer may keep pending orders to the end.
SHORT_WINDOW_S = 30.0
PAGE = 1_000
SENTENCES_MAX = 200
_STATES = {
    value: name.removeprefix("ORDER_STATE_").lower() for name, value in order_pb2.OrderState.items()
}


@dataclass
class Looks:
    """How often the database was looked at during the faults, and how often it was away."""

    done: int = 0
    missed: int = 0


@dataclass
class Judge:
    """Collects violations.

    Attributes:
        windows_s: payment time, by sku.
        states: orders by state, as they were seen last.
        momentary: what was broken at some moment, with the second of the campaign.
    """

    arena: Arena
    histories: Mapping[str, History]
    windows_s: Mapping[str, float]
    looks: Looks = field(default_factory=Looks)
    states: Counter[str] = field(default_factory=Counter)
    momentary: dict[str, float] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look at what must hold at every moment, until cancelled."""
        while True:
            for sku in self.histories:
                await self._glance(sku)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _glance(self, sku: str) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                books = await self.arena.reader.books(sku)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.looks.missed += 1
            return
        self.looks.done += 1
        for violation in check_books(books):
            if len(self.momentary) < SENTENCES_MAX:
                self.momentary.setdefault(f"{violation} ({sku})", self.arena.now_s)

    async def settle(self, *, deadline_s: float) -> list[str]:
        """What is wrong once everything is settled, or when time is over; tells the sale, too.

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
        """(what is wrong now, whether orders still wait for the end of their payment time)."""
        pipeline = await self.arena.reader.pipeline()
        events = await self._events()
        found: list[str] = []
        waiting = False
        self.states.clear()
        for sku, history in self.histories.items():
            facts = await self.arena.reader.facts(sku, pipeline=pipeline)
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
        """(order number, kind) of all order events."""
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
        """What callers are shown of these orders; nothing where the stage does not answer."""
        shown: dict[str, str] = {}
        stub = order_pb2_grpc.OrderServiceStub(self.arena.channels["order"])
        for begin in range(0, len(rows), PAGE):
            numbers = [row.order_no for row in rows[begin : begin + PAGE]]
            request = order_pb2.BatchGetOrdersRequest(order_nos=numbers)
            try:
                answer = await stub.BatchGetOrders(request, timeout=LOOK_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                continue
            orders = (order_pb2.Order.FromString(text) for text in answer.orders if text)
            shown |= {order.order_no: _STATES[order.state] for order in orders}
        return shown

    async def _audits(self) -> list[str]:
        """What `seckill audit` disproves."""
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
