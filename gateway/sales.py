"""What is known of the sales, without asking: fed by InventoryService.WatchSales.

The flags say what a *new* buyer would be told: sold out, paused, ended, not started. But one who
holds a unit and repeats the request must get their order's number, also after the sale is sold out,
and they may have bought through another replica. So with a sale that sells nothing inventory sends
who holds units of it: a few hundred names, which no buyer can join until the sale sells again, and
that makes a new snapshot. Buyers who are not named are refused here; the others are asked for.

What remains are the milliseconds in which a restock's notice is on its way: a buyer who wins a
returned unit through another replica just then, and asks here, may be told "sold out" once, and the
truth on their next attempt.

A sku that is not among them does not exist, or its sale is archived, which the stream leaves out.
A sale that was created a moment ago is waited for: its notice is on its way. Then inventory is
asked, so seldom that who invents skus keeps neither it nor the database busy.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import grpc
from google.protobuf.duration_pb2 import Duration

from gateway.ages import older
from gateway.metrics import GATEWAY_HALTED, SALES_STREAM_UP, SOLD_OUT_SALES_COUNT
from seckill.errors import Overloaded, SaleNotFound, SeckillError
from seckill.runtime.recent import Recent
from seckill.runtime.sale_view import SaleView, apply_changes, follow_sales
from seckill.status import from_rpc_error
from seckill.v1 import gateway_pb2, inventory_pb2, inventory_pb2_grpc, sale_pb2

# A sku that does not exist is not asked for again so soon; the same for a sale's remaining units.
ANSWER_KEPT_S = 1.0
ANSWERS_MAX = 8_192
LOOKUP_TIMEOUT_S = 1.0
# How long the notice of a sale that was just created may take.
NOTICE_WAIT_S = 0.25
# What may come back of a sale that is sold out; None while nobody knows.
ReadUnpaid = Callable[[str], Awaitable[sale_pb2.UnpaidUnits | None]]
# Of the look-ups at once, what unknown skus may take while the stream is down.
UNKNOWN_SHARE = 0.25
# How often one of them is asked for while it is up: only archived sales can be found then.
UNTOLD_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class _Answer:
    """What inventory said when it was asked for a sale; no payload if there is none.

    Attributes:
        as_of_s: monotonic time of which it is, or of later.
    """

    payload: bytes | None
    until_s: float
    as_of_s: float = 0.0


class Sales:
    """The sales, by sku. While the stream is down for too long their flags are not is_fresh."""

    def __init__(
        self,
        stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
        *,
        cache_ttl_s: float,
        lookups_max: int,
        read_unpaid: ReadUnpaid,
    ) -> None:
        """
        Args:
            stub: inventory_svc.
            read_unpaid: asked with each look at a sale that is sold out.
            cache_ttl_s: how long flags outlive the stream.
            lookups_max: sales asked for at the same time, and unknown skus waited for.
        """
        self.seen = asyncio.Event()
        # The kill switch as last heard of. Unlike the flags it stands while nothing is heard: only
        # inventory's word lifts it.
        self.halted = False
        self._stub = stub
        self._cache_ttl_s = cache_ttl_s
        self._lookups_max = lookups_max
        self._read_unpaid = read_unpaid
        self._views: dict[str, SaleView] = {}
        # Units that were left of these sales when inventory last spoke of them.
        self._remaining: dict[str, int] = {}
        self._answers: Recent[str, _Answer] = Recent(ANSWERS_MAX)
        self._lookups: dict[str, asyncio.Task[_Answer]] = {}
        self._unknown_lookups: dict[str, asyncio.Task[_Answer]] = {}
        # Skus that the stream may tell of in a moment.
        self._awaited: dict[str, asyncio.Future[None]] = {}
        # Monotonic time from which on the next sku that it leaves out may be asked for.
        self._next_untold_s = 0.0
        # None while the stream is up.
        self._down_since_s: float | None = float("-inf")

    def get(self, sku: str) -> SaleView | None:
        """The sale as last heard of, or None."""
        return self._views.get(sku)

    def note_holder(self, sku: str, user_id: str) -> None:
        """A buyer was just told of a hold; the stream may tell of it a moment later."""
        view = self._views.get(sku)
        if view is not None and view.holders is not None:
            view.holders.add(user_id)

    def remaining(self, sku: str) -> int | None:
        """Units that were left when inventory last spoke of the sale; None if it is not known."""
        return self._remaining.get(sku)

    def note_remaining(self, sku: str, units: int) -> None:
        """Inventory has said with a batch's answers what is left; the stream does not count."""
        if sku in self._views:
            self._remaining[sku] = units

    def is_fresh(self, monotonic_s: float) -> bool:
        """Whether the flags are fresh enough to refuse by."""
        down_s = self._down_since_s
        return down_s is None or monotonic_s - down_s < self._cache_ttl_s

    async def read(self, sku: str) -> bytes:
        """A serialized GatewayServiceGetSaleResponse, which says how old it is.

        It is kept for a second; a replica may have told it to inventory.

        Raises:
            SaleNotFound: there is no such sale.
            Overloaded: too many sales are being asked for.
            SeckillError: inventory does not answer, or says what is wrong.
        """
        answer = self._kept(sku)
        if answer is None:
            await self._until_told(sku)
            answer = await self._look_up_once(sku)
        told = gateway_pb2.GatewayServiceGetSaleResponse(
            age=older(Duration(), time.monotonic() - answer.as_of_s)
        )
        # In protobuf's encoding, messages one after another are their union.
        return (answer.payload or b"") + told.SerializeToString()

    async def find(self, sku: str) -> None:
        """Return once the sale is known to `get`. Raises what `read` raises."""
        if sku in self._views or self._kept(sku) is not None:
            return
        await self._until_told(sku)
        if sku not in self._views:
            await self._look_up_once(sku)

    def _kept(self, sku: str) -> _Answer | None:
        """The last answer, if it is recent. Raises SaleNotFound if it was that there is none."""
        answer = self._answers.get(sku)
        if answer is None or answer.until_s <= time.monotonic():
            return None
        if answer.payload is None:
            raise SaleNotFound(metadata={"sku": sku})
        return answer

    async def _until_told(self, sku: str) -> None:
        """Wait a moment for the stream to tell of a sale, if it is up and has not yet."""
        if sku in self._views or self._down_since_s is not None:
            return
        notice = self._awaited.get(sku)
        if notice is None:
            if len(self._awaited) >= self._lookups_max:
                raise SaleNotFound(metadata={"sku": sku})
            loop = asyncio.get_running_loop()
            notice = self._awaited[sku] = loop.create_future()
            loop.call_later(NOTICE_WAIT_S, self._stop_waiting, sku, notice)
        await asyncio.shield(notice)

    def _stop_waiting(self, sku: str, notice: asyncio.Future[None]) -> None:
        if not notice.done():
            del self._awaited[sku]
            notice.set_result(None)

    async def _look_up_once(self, sku: str) -> _Answer:
        """One question at a time for each sku; unknown ones leave room to the sales that exist."""
        known = sku in self._views
        lookups = self._lookups if known else self._unknown_lookups
        lookup = lookups.get(sku)
        if lookup is None:
            if not known and self._down_since_s is None:
                self._charge_untold(sku)
            most = self._lookups_max if known else self._lookups_max * UNKNOWN_SHARE
            if len(lookups) >= max(1, most):
                raise Overloaded("too many sales are being looked up", wait_s=LOOKUP_TIMEOUT_S / 2)
            lookup = asyncio.create_task(self._look_up(sku), name="sale lookup")
            lookups[sku] = lookup
            lookup.add_done_callback(lambda _: lookups.pop(sku))
        # One caller's cancellation must not end the lookup of the others.
        return await asyncio.shield(lookup)

    def _charge_untold(self, sku: str) -> None:
        """Raise SaleNotFound if a sku that the stream leaves out was asked for just now."""
        now_s = time.monotonic()
        if now_s < self._next_untold_s:
            self._answers.put(sku, _Answer(None, now_s + ANSWER_KEPT_S))
            raise SaleNotFound(metadata={"sku": sku})
        self._next_untold_s = now_s + UNTOLD_EVERY_S

    async def _look_up(self, sku: str) -> _Answer:
        payload: bytes | None = None
        as_of_s = time.monotonic()
        before = self._views.get(sku)
        # What is displayed may be a little old; flags, by which buyers are refused, may not.
        displayed = before is not None and self._down_since_s is None
        question = inventory_pb2.GetSaleRequest(sku=sku, replica_allowed=displayed)
        try:
            response = await self._stub.GetSale(question, timeout=LOOKUP_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise from_rpc_error(error, service="inventory") from error
        else:
            # The stream may be behind, or down; but what it told meanwhile is newer, and an equal
            # view of it has the holders too.
            view = SaleView.of(response.sale)
            current = self._views.get(sku)
            is_news = before is None or replace(before, holders=None) != view
            if current is before and is_news and not response.HasField("age"):
                self._views[sku] = view
            as_of_s -= response.age.ToNanoseconds() / 1e9
            payload = await self._described(response.sale)
        answer = _Answer(payload, time.monotonic() + ANSWER_KEPT_S, as_of_s)
        self._answers.put(sku, answer)
        if payload is None:
            raise SaleNotFound(metadata={"sku": sku})
        return answer

    async def _described(self, sale: sale_pb2.Sale) -> bytes:
        """The answer about a sale, with what may come back of one that is sold out."""
        answer = gateway_pb2.GatewayServiceGetSaleResponse(sale=sale)
        if sale.sold_out:
            unpaid = await self._read_unpaid(sale.terms.sku)
            if unpaid is not None:
                answer.unpaid.CopyFrom(unpaid)
        return answer.SerializeToString()

    async def check_seen(self) -> None:
        """Health check: succeeds once inventory has told of all sales."""
        if not self.seen.is_set():
            raise SeckillError("inventory has not told of its sales yet")

    async def watch(self) -> None:
        """Follow the stream for ever, connecting again when it breaks."""
        await follow_sales(self._stub, apply=self.apply, broken=self._broken)

    def _broken(self) -> None:
        if self._down_since_s is None:
            self._down_since_s = time.monotonic()
            SALES_STREAM_UP.set(0)

    def apply(self, message: inventory_pb2.WatchSalesResponse) -> None:
        """Take in a message of the stream."""
        self._views = apply_changes(self._views, message)
        if message.complete:
            self._remaining.clear()
            self._down_since_s = None
            self.seen.set()
            SALES_STREAM_UP.set(1)
        if message.HasField("kill_switch"):
            self.halted = message.kill_switch.on
            GATEWAY_HALTED.set(self.halted)
        for sale in message.sales:
            if sale.loaded:
                self._remaining[sale.terms.sku] = sale.remaining_units
            else:
                self._remaining.pop(sale.terms.sku, None)
            self._answers.drop(sale.terms.sku)
            notice = self._awaited.pop(sale.terms.sku, None)
            if notice is not None:
                notice.set_result(None)
        SOLD_OUT_SALES_COUNT.set(sum(view.sold_out for view in self._views.values()))
