"""What is known of the sales, without asking: fed by InventoryService.WatchSales.

The flags say what a *new* buyer would be told: sold out, paused, ended, not started. But one who
holds a unit and repeats his request must get his order's number, also after the sale is sold out,
and he may have bought through another replica. So with a sale that sells nothing inventory sends
who holds units of it: a few hundred names, and nobody can join them until the sale sells again,
which makes a new snapshot. Whoever is not named is refused here; whoever is named is asked for.

What remains are the milliseconds in which a restock's notice is under way: who wins a returned unit
through another replica just then, and asks here, may be told "sold out" once, and the truth on his
next attempt.
"""

import asyncio
import time
from dataclasses import dataclass, replace

import grpc

from gateway.metrics import HALTED, SALES_STREAM_UP, SOLD_OUT_SALES
from gateway.recent import Recent
from seckill.errors import Overloaded, SaleNotFound, SeckillError, from_rpc_error
from seckill.sale_view import SaleView, apply_changes, follow_sales
from seckill.v1 import inventory_pb2, inventory_pb2_grpc

# A sku that does not exist is not asked for again so soon; the same for a sale's remaining units.
ANSWER_KEPT_S = 1.0
ANSWERS_MAX = 8_192
LOOKUP_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """What inventory said when it was asked for a sale; no payload where there is none."""

    payload: bytes | None
    until_s: float


class Sales:
    """The sales, by sku. While the stream is down for too long their flags are not believed."""

    def __init__(
        self,
        stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
        *,
        believed_s: float,
        lookups_max: int,
    ) -> None:
        """
        Args:
            stub: inventory_svc.
            believed_s: how long flags outlive the stream.
            lookups_max: sales asked for at the same time.
        """
        self.seen = asyncio.Event()
        # The kill switch as last heard of. Unlike the flags it stands while nothing is heard: only
        # inventory's word lifts it.
        self.halted = False
        self._stub = stub
        self._believed_s = believed_s
        self._lookups_max = lookups_max
        self._views: dict[str, SaleView] = {}
        self._answers: Recent[str, _Answer] = Recent(ANSWERS_MAX)
        self._lookups: dict[str, asyncio.Task[bytes]] = {}
        # None while the stream is up.
        self._down_since_s: float | None = float("-inf")

    def get(self, sku: str) -> SaleView | None:
        """The sale as last heard of, or None."""
        return self._views.get(sku)

    def note_holder(self, sku: str, user_id: str) -> None:
        """Somebody was just told of a hold; the stream may tell of it a moment later."""
        view = self._views.get(sku)
        if view is not None and view.holders is not None:
            view.holders.add(user_id)

    def believed(self, monotonic_s: float) -> bool:
        """Whether the flags are fresh enough to refuse by."""
        down_s = self._down_since_s
        return down_s is None or monotonic_s - down_s < self._believed_s

    async def read(self, sku: str) -> bytes:
        """A serialized GetSaleResponse, at most a second old.

        Raises:
            SaleNotFound: there is no such sale.
            Overloaded: too many sales are being asked for.
            SeckillError: inventory does not answer, or says what is wrong.
        """
        answer = self._answers.get(sku)
        if answer is not None and answer.until_s > time.monotonic():
            if answer.payload is None:
                raise SaleNotFound(metadata={"sku": sku})
            return answer.payload
        lookup = self._lookups.get(sku)
        if lookup is None:
            if len(self._lookups) >= self._lookups_max:
                raise Overloaded("too many sales are being looked up")
            lookup = asyncio.create_task(self._look_up(sku), name="sale lookup")
            self._lookups[sku] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(sku))
        # One caller's cancellation must not end the lookup of the others.
        return await asyncio.shield(lookup)

    async def _look_up(self, sku: str) -> bytes:
        payload: bytes | None = None
        before = self._views.get(sku)
        try:
            response = await self._stub.GetSale(
                inventory_pb2.GetSaleRequest(sku=sku), timeout=LOOKUP_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise from_rpc_error(error, stage="inventory") from error
        else:
            payload = response.SerializeToString()
            # The stream may be behind, or down; but what it told meanwhile is newer, and an equal
            # view of it has the holders too.
            view = SaleView.of(response.sale)
            current = self._views.get(sku)
            if current is before and (before is None or replace(before, holders=None) != view):
                self._views[sku] = view
        self._answers.put(sku, _Answer(payload, time.monotonic() + ANSWER_KEPT_S))
        if payload is None:
            raise SaleNotFound(metadata={"sku": sku})
        return payload

    async def check_seen(self) -> None:
        """Health check: succeeds once inventory has told of all sales."""
        if not self.seen.is_set():
            raise SeckillError("inventory has not told of its sales yet")

    async def watch(self) -> None:
        """Follow the stream for ever, connecting again where it breaks."""
        await follow_sales(self._stub, apply=self.apply, broken=self._broken)

    def _broken(self) -> None:
        if self._down_since_s is None:
            self._down_since_s = time.monotonic()
            SALES_STREAM_UP.set(0)

    def apply(self, message: inventory_pb2.WatchSalesResponse) -> None:
        """Take in a message of the stream."""
        self._views = apply_changes(self._views, message)
        if message.complete:
            self._down_since_s = None
            self.seen.set()
            SALES_STREAM_UP.set(1)
        if message.HasField("kill_switch"):
            self.halted = message.kill_switch.on
            HALTED.set(self.halted)
        for sale in message.sales:
            self._answers.drop(sale.terms.sku)
        SOLD_OUT_SALES.set(sum(view.sold_out for view in self._views.values()))
