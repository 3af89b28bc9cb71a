"""The operators of a campaign: they open sales, change them, and rebuild what Redis has lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from campaigns.soak.arena import Arena
from campaigns.soak.crowd import DEFECTS
from campaigns.soak.damage import Damage
from campaigns.soak.plan import ActPlan, Plan, SalePlan
from seckill.status import reason_of
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    rollback_pb2,
    rollback_pb2_grpc,
    sale_pb2,
)
from tests.kits.factories import sale_terms
from tests.kits.faults.history import History

CALL_S = 3.0
REBUILD_S = 15.0
PATIENCE_S = 20.0
PAUSE_S = 0.3
# How long an operator takes to notice that a sale is lost.
NOTICE_S = 1.0
# Statuses which say that something was done already or cannot be done; others are repeated.
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
    """What an operator had to rebuild: seconds after the start, the sale, and what it was."""

    at_s: float
    sku: str
    what: str


class Operators:
    """Act as planned, and rebuild what is lost; nobody tells the reconciler to repair.

    Attributes:
        answers: results of their calls, by method and status.
        mended: what they rebuilt; they repair nothing else.
        defects: answers that no service should have given, each in a sentence.
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

    def _one(self, service: str) -> str:
        """Return a replica of the service that no fault has stopped, if there is one."""
        return f"{service}/b" if service in self._arena.down else service

    async def open_sales(self, sales: Sequence[SalePlan]) -> None:
        """Create all sales, before the first fault."""
        for sku, plan in zip(self._skus, sales, strict=True):
            self._terms[sku] = sale_terms(
                sku=sku,
                units=plan.units,
                limit=plan.limit,
                starts_in_s=plan.opens_s - 1,
                payment_window_s=plan.window_s,
                rebuy_allowed=plan.rebuy,
                buckets=plan.buckets,
            )
            await self._create(sku)

    async def run(self, plan: Plan) -> None:
        """Carry out all acts at their times."""
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

    async def finish(self, *, deadline_s: float) -> None:
        """Rebuild what is still lost; `deadline_s`: monotonic time."""
        for sku in self._skus:
            while await self._is_lost(sku) and time.monotonic() < deadline_s:
                await self._rebuild(sku)

    async def until_agreed(self, sku: str, *, deadline_s: float) -> list[str]:
        """Compare, repairing nothing, until nothing is found; return what is, in sentences.

        `deadline_s`: monotonic time.
        """
        while True:
            answer = await self._call("compare", lambda: self._compared(sku))
            findings = answer.findings if answer is not None else ()
            if answer is not None and not findings:
                return []
            if time.monotonic() > deadline_s:
                said = [f"the reconciler says of {sku}: {one.explanation}" for one in findings]
                return said or [f"{sku} cannot be compared"]
            await asyncio.sleep(PAUSE_S)

    async def _act(self, act: ActPlan) -> None:
        sku = self._skus[act.sale]
        match act.task:
            case "pause":
                await self._set_state(sku, sale_pb2.SALE_STATE_PAUSED)
                await asyncio.sleep(act.lasts_s)
                await self._set_state(sku, sale_pb2.SALE_STATE_OPEN)
            case "create again":
                await self._create_again(sku)
            case "refund" | "write off":
                await self._refund(sku, restock=act.task == "refund")
            case "sweep":
                request = rollback_pb2.SweepRequest()
                await self._call("sweep", lambda: self._rollback().Sweep(request, timeout=CALL_S))
            case "compare":
                await self._call("compare", lambda: self._compared(sku))

    async def _set_state(self, sku: str, state: sale_pb2.SaleState.ValueType) -> None:
        request = inventory_pb2.UpdateSaleRequest(sku=sku, state=state)
        await self._call("update", lambda: self._inventory().UpdateSale(request, timeout=CALL_S))

    async def _create(self, sku: str) -> None:
        request = inventory_pb2.CreateSaleRequest(terms=self._terms[sku])
        await self._call("create", lambda: self._inventory().CreateSale(request, timeout=CALL_S))

    async def _create_again(self, sku: str) -> None:
        """Create a sale with its first terms, which rebuilds it if Redis has lost it."""
        self._damage.reopen(sku)
        self._damage.rebuilding.add(sku)
        await self._create(sku)
        self._damage.rebuilding.discard(sku)

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
            # The next look will tell.
            return False
        return not answer.sale.loaded

    async def _rebuild(self, sku: str) -> None:
        self._damage.reopen(sku)
        request = inventory_pb2.RebuildSaleRequest(sku=sku)
        # Until the call has ended: the service may load the sale at any moment.
        self._damage.rebuilding.add(sku)
        answer = await self._call(
            "rebuild", lambda: self._inventory().RebuildSale(request, timeout=REBUILD_S)
        )
        self._damage.rebuilding.discard(sku)
        if answer is not None:
            epoch = answer.sale.epoch
            self.mended.append(Mended(self._arena.now_s, sku, f"rebuilt under epoch {epoch}"))

    async def _compared(self, sku: str) -> rollback_pb2.ReconcileResponse:
        request = rollback_pb2.ReconcileRequest(sku=sku)
        return await self._rollback().Reconcile(request, timeout=REBUILD_S)

    async def _call(self, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat a call until it is answered or for PATIENCE_S; return None if it was refused."""
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
