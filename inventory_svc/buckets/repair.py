"""Repairs a sale of any number of buckets: each hold in its buyer's home."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inventory_svc.buckets.borrower import Borrower
from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.standing import Standing, Standings
from inventory_svc.stock.loader import SaleLoader
from seckill.buckets import home_of
from seckill.errors import ConsumersLagging, SaleNotLoaded
from seckill.v1.inventory_pb2 import RepairHoldsRequest, RepairHoldsResponse

if TYPE_CHECKING:
    import redis.asyncio


class Repairer:
    """Makes holds, outboxes and stock agree with the database; one of one bucket in one step."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        loader: SaleLoader,
        layouts: Layouts,
        borrower: Borrower,
    ) -> None:
        self._loader = loader
        self._layouts = layouts
        self._borrower = borrower
        self._standings = Standings(client)

    async def repair(self, request: RepairHoldsRequest, *, timeout_s: float) -> RepairHoldsResponse:
        """Repair a sale.

        With several buckets holds come first, each with its own units: one that is written lowers
        its bucket's counter, one that is released raises it. Then the sale's counter is moved by
        what is left, in the buckets that have most. What is interrupted sells less.

        Args:
            request: a valid one.
            timeout_s: how long to wait for Redis, for each step.

        Raises:
            As SaleLoader.repair; ConsumersLagging also if units moved meanwhile.
        """
        await self._layouts.learn([request.sku])
        tags = self._layouts.tags(request.sku)
        if len(tags) == 1:
            return await self._loader.repair(request, timeout_s=timeout_s)
        standing = await self._standings.read(tags)
        self._require_unchanged(standing, request)
        response = RepairHoldsResponse()
        written_units = 0
        for home, tag in enumerate(tags):
            part = _part_of(request, home, standing)
            if part.missing or part.unsent or part.ended:
                done = await self._loader.repair(part, timeout_s=timeout_s, bucket=tag)
                response.order_nos.extend(done.order_nos)
                response.stock_change_units += done.stock_change_units
                repaired = set(done.order_nos)
                written_units += sum(h.quantity for h in part.missing if h.order_no in repaired)
        # As repair.lua does for one bucket: up by no more than what was written, without restock.
        change = -request.surplus_units
        if not request.restock:
            change = min(change, written_units)
        for home, units in self._spread(change, await self._standings.read(tags)):
            part = RepairHoldsRequest(
                sku=request.sku, epoch=request.epoch, surplus_units=-units, restock=True
            )
            part.repairs = _repairs_of((await self._standings.read(tags)), home)
            done = await self._loader.repair(part, timeout_s=timeout_s, bucket=tags[home])
            response.stock_change_units += done.stock_change_units
        await self._cover_debts(tags)
        return response

    def _require_unchanged(self, standing: Standing, request: RepairHoldsRequest) -> None:
        if not standing.is_loaded:
            raise SaleNotLoaded(metadata={"sku": request.sku})
        repairs = sum(_repairs_of(standing, home) for home in range(len(standing.buckets)))
        if standing.buckets[0].epoch != request.epoch or repairs != request.repairs:
            raise ConsumersLagging("another repair came between", metadata={"sku": request.sku})

    def _spread(self, change: int, standing: Standing) -> Sequence[tuple[int, int]]:
        """Return by how much each bucket's counter moves, in pairs of bucket and units."""
        units = [bucket.units for bucket in standing.buckets]
        if change >= 0:
            return [(0, change)] if change else []
        steps: list[tuple[int, int]] = []
        for home in sorted(range(len(units)), key=units.__getitem__, reverse=True):
            step = max(change, -max(0, units[home]))
            if step:
                steps.append((home, step))
                change -= step
        # More is held than there is, in any bucket.
        return [*steps, (0, change)] if change else steps

    async def _cover_debts(self, tags: Sequence[str]) -> None:
        """Have buckets that hold more than they had lent units by others, which would sell them."""
        standing = await self._standings.read(tags)
        for home, bucket in enumerate(standing.buckets):
            if bucket.units < 0:
                await self._borrower.bring(tags, home, least=0, most=0)


def _part_of(request: RepairHoldsRequest, home: int, standing: Standing) -> RepairHoldsRequest:
    """Return what of a repair is about the buyers of one bucket; their units count there."""
    buckets = len(standing.buckets)
    part = RepairHoldsRequest(
        sku=request.sku, epoch=request.epoch, repairs=_repairs_of(standing, home)
    )
    for name in ("missing", "unsent", "ended"):
        holds = getattr(request, name)
        getattr(part, name).extend(h for h in holds if home_of(h.user_id, buckets) == home)
    return part


def _repairs_of(standing: Standing, home: int) -> int:
    return int(standing.buckets[home].fields.get(b"repairs", 0))
