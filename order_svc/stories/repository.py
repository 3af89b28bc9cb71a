"""Reads what the database has on single orders."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from order_svc.db.database import Database, Row
from order_svc.orders.model import timestamp
from order_svc.orders.repository import OrderRepository
from order_svc.stories.sentences import sentence
from seckill.v1 import order_admin_pb2, story_pb2

# Of a buyer, the latest.
ORDERS_MAX = 50
# Of one order: rows beyond are left out, the latest ones.
EVENTS_MAX = 500


class StoryRepository:
    """Stories of orders. DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orders = OrderRepository(database)

    async def orders_of(self, user_id: str) -> tuple[list[str], bool]:
        """Return the numbers of a buyer's latest orders, and whether there are more."""
        rows = await self._orders.page(
            sku="", user_id=user_id, status="", before="", limit=ORDERS_MAX + 1
        )
        return [row["order_no"] for row in rows[:ORDERS_MAX]], len(rows) > ORDERS_MAX

    async def read(
        self, order_nos: Sequence[str]
    ) -> tuple[list[story_pb2.StoryEvent], list[order_admin_pb2.BuyerOfSale]]:
        """Return what is on record about these orders, by order and time, and whose they are."""
        rows = await self._database.fetch("stories/list_story", list(order_nos))
        buyers: dict[tuple[str, str], None] = {}
        events = []
        for row in rows[: EVENTS_MAX * max(1, len(order_nos))]:
            facts: Mapping[str, Any] = json.loads(row["facts"])
            if row["kind"] == "order":
                buyers[facts["user_id"], row["sku"]] = None
            events.append(_event(row, facts))
        return events, [
            order_admin_pb2.BuyerOfSale(user_id=user_id, sku=sku) for user_id, sku in buyers
        ]


def _event(row: Row, facts: Mapping[str, Any]) -> story_pb2.StoryEvent:
    kind, text = sentence(row["kind"], facts)
    return story_pb2.StoryEvent(
        time=timestamp(row["at"]),
        store=story_pb2.STORY_STORE_POSTGRES,
        kind=kind,
        order_no=row["order_no"],
        sku=row["sku"],
        text=text,
        call_id=row["call_id"],
    )
