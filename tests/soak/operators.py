"""The operators of a campaign: they open sales, meddle with them, and mend what Redis has lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from seckill.errors import reason_of
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    rollback_pb2,
    rollback_pb2_grpc,
    sale_pb2,
)
from tests.factories import sale_terms
from tests.faults.history import History
from tests.soak.arena import Arena
from tests.soak.crowd import DEFECTS
from tests.soak.damage import Damage
from tests.soak.plan import ActPlan, Plan, SalePlan

CALL_S = 3.0
REBUILD_S = 15.0
PATIENCE_S = 20.0
PAUSE_S = 0.3
# How long an operator takes to notice that a sale is lost.
NOTICE_S = 1.0
# What says that something was done already, or cannot be done now; everything else is repeated.
_FINAL = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)

T = TypeVar("T")


@dataclass(frozen=True)
class Mended:
    """What an operator had to mend: seconds after the begin, the sale, and what it was."""

    at_s: float
    sku: str
    what: str


class Operators:
    """Act as planned, and rebuild what is lost.

    Attributes:
        answers: what became of their calls, by method and status.
        mended: what they rebuilt and reconciled.
        defects: calls that a stage answered with INTERNAL.
    """

    def __init__(self, arena: Arena, histories: Mapping[str, History], damage: Damage) -> None:
        self._arena = arena
        self._histories = histories
        self._skus = list(histories)
        self._damage = damage
        self._terms: dict[str, sale_pb2.SaleTerms] = {}
        self.answers: Counter[str] = Counter()
        self.mended: list[Mended] = []
        self.defects: list[str] = []

    def _inventory(self) -> "inventory_pb2_grpc.InventoryServiceAsyncStub":
        return inventory_pb2_grpc.InventoryServiceStub(self._arena.channels[self._one("inventory")])

    def _order(self) -> "order_pb2_grpc.OrderServiceAsyncStub":
        return order_pb2_grpc.OrderServiceStub(self._arena.channels[self._one("order")])

    def _rollback(self) -> "rollback_pb2_grpc.RollbackServiceAsyncStub":
        return rollback_pb2_grpc.RollbackServiceStub(self._arena.channels[self._one("rollback")])

    def _one(self, stage: str) -> str:
        """A replica that is not meant to be down: the callers of operators know where to ask."""
        return f"{stage}/b" if stage in self._arena.down else stage

    async def open_sales(self, sales: Sequence[SalePlan]) -> None:
        """Create all sales, before anything goes wrong."""
        for sku, plan in zip(self._skus, sales, strict=True):
            self._terms[sku] = sale_terms(
                sku=sku,
                units=plan.units,
                limit=plan.limit,
                starts_in_s=plan.opens_s - 1,
                payment_window_s=plan.window_s,
                rebuy_allowed=plan.rebuy,
            )
            await self._create(sku)

    async def run(self, plan: Plan) -> None:
        """All acts at their times."""
        async with asyncio.TaskGroup() as acting:
            for act in plan.acts:
                await asyncio.sleep(max(0.0, act.at_s - self._arena.now_s))
                acting.create_task(self._act(act))

    async def mend(self) -> None:
        """Rebuild each sale that is found lost, until cancelled."""
        async with asyncio.TaskGroup() as watching:
            for sku in self._skus:
                watching.create_task(self._mend(sku))

    async def _mend(self, sku: str) -> None:
        while True:
            await asyncio.sleep(NOTICE_S)
            if await self._is_lost(sku):
                await self._rebuild(sku)

    async def finish(self, *, deadline_s: float) -> list[str]:
        """Rebuild what is still lost, reconcile what is damaged; tells what could not be done.

        `deadline_s`: monotonic time.
        """
        problems = []
        for sku in self._skus:
            while await self._is_lost(sku) and time.monotonic() < deadline_s:
                await self._rebuild(sku)
            # A rebuild while messages were under way leaves what only a comparison finds.
            if sku in self._damage.damaged or self._histories[sku].done.lost:
                problems += await self._reconcile(sku, deadline_s=deadline_s)
        return problems

    async def compare(self, sku: str) -> list[str]:
        """What a comparison finds, in sentences; it repairs nothing."""
        answer = await self._call("compare", lambda: self._reconciled(sku, repair=False))
        if answer is None:
            return [f"{sku} cannot be compared"]
        return [f"the reconciler says of {sku}: {one.explanation}" for one in answer.findings]

    async def _act(self, act: ActPlan) -> None:
        sku = self._skus[act.sale]
        match act.task:
            case "pause":
                await self._set_state(sku, sale_pb2.SALE_STATE_PAUSED)
                await asyncio.sleep(act.lasts_s)
                await self._set_state(sku, sale_pb2.SALE_STATE_OPEN)
            case "create again":
                await self._create(sku)
            case "refund" | "write off":
                await self._refund(sku, restock=act.task == "refund")
            case "sweep":
                request = rollback_pb2.SweepRequest()
                await self._call("sweep", lambda: self._rollback().Sweep(request, timeout=CALL_S))
            case "compare":
                await self._call("compare", lambda: self._reconciled(sku, repair=False))

    async def _set_state(self, sku: str, state: sale_pb2.SaleState.ValueType) -> None:
        request = inventory_pb2.UpdateSaleRequest(sku=sku, state=state)
        await self._call("update", lambda: self._inventory().UpdateSale(request, timeout=CALL_S))

    async def _create(self, sku: str) -> None:
        request = inventory_pb2.CreateSaleRequest(terms=self._terms[sku])
        await self._call("create", lambda: self._inventory().CreateSale(request, timeout=CALL_S))

    async def _refund(self, sku: str, *, restock: bool) -> None:
        history = self._histories[sku]
        order_no = next((one for one in history.paid if one not in history.refunded), "")
        if not order_no:
            return
        request = order_pb2.RefundOrderRequest(
            order_no=order_no, refund_id=f"refund-{order_no}", restock=restock
        )
        call = self._call("refund", lambda: self._order().RefundOrder(request, timeout=CALL_S))
        if await call is not None:
            history.refunded[order_no] = restock

    async def _is_lost(self, sku: str) -> bool:
        request = inventory_pb2.GetSaleRequest(sku=sku)
        try:
            answer = await self._inventory().GetSale(request, timeout=CALL_S)
        except grpc.aio.AioRpcError:
            # Nobody can tell; the next look will.
            return False
        return not answer.sale.loaded

    async def _rebuild(self, sku: str) -> None:
        since_s = self._damage.closed_s.pop(sku, None)
        if since_s is not None:
            self._histories[sku].done.lost.append((since_s, time.time()))
        request = inventory_pb2.RebuildSaleRequest(sku=sku)
        # Also after a call that was given up: the stage may still be at it.
        self._damage.rebuilding.add(sku)
        answer = await self._call(
            "rebuild", lambda: self._inventory().RebuildSale(request, timeout=REBUILD_S)
        )
        self._damage.rebuilding.discard(sku)
        if answer is not None:
            epoch = answer.sale.epoch
            self.mended.append(Mended(self._arena.now_s, sku, f"rebuilt under epoch {epoch}"))

    async def _reconcile(self, sku: str, *, deadline_s: float) -> list[str]:
        """Repair until nothing is found any more."""
        findings: Sequence[rollback_pb2.ReconcileFinding] = ()
        while time.monotonic() < deadline_s:
            answer = await self._call("reconcile", lambda: self._reconciled(sku, repair=True))
            if answer is None:
                continue
            findings = answer.findings
            if not findings:
                return []
            what = f"{len(findings)} findings, {answer.drift_units} units of drift"
            self.mended.append(Mended(self._arena.now_s, sku, what))
            await asyncio.sleep(PAUSE_S)
        return [f"{sku} was not reconciled: {findings[0].explanation if findings else 'busy'}"]

    async def _reconciled(self, sku: str, *, repair: bool) -> rollback_pb2.ReconcileResponse:
        request = rollback_pb2.ReconcileRequest(sku=sku, repair=repair, repair_restock=repair)
        return await self._rollback().Reconcile(request, timeout=REBUILD_S)

    async def _call(self, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """Call until it is answered or patience ends; None where it was refused."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await call()
            except grpc.aio.AioRpcError as error:
                reason = reason_of(error)
                self.answers[f"{what}: {error.code().name} {reason or ''}".strip()] += 1
                if reason in DEFECTS:
                    self.defects.append(f"{what} was answered {reason}: {error.details()}")
                if error.code() in _FINAL or time.monotonic() > deadline_s:
                    return None
                await asyncio.sleep(PAUSE_S)
            else:
                self.answers[f"{what}: OK"] += 1
                return answer
