"""What buyers did with their orders over all sales: asked of order_svc in batches, kept briefly.

It is asked for where purchase tokens are issued, and only while a rule needs it.
"""

import asyncio
import hashlib
import time
from collections import deque
from typing import NamedTuple

import grpc

from seckill.errors import DependencyUnavailable, Overloaded, SeckillError
from seckill.runtime.faults import fault_of
from seckill.runtime.recent import Recent
from seckill.status import from_rpc_error
from seckill.v1 import hoarding_pb2, hoarding_pb2_grpc

# Buyers in one call.
BATCH_MAX = 512
IN_FLIGHT_MAX = 2
WAITING_MAX = 10_000
# Histories kept, about 250 bytes each.
KEPT_MAX = 16_384


class BuyerHistory(NamedTuple):
    """The orders of a buyer over all sales; each count ends at 100.

    Attributes:
        pending: await payment.
        unpaid: were not paid: expired, given up late, or voided.
        paid: are paid.
        fingerprint_pending: await payment, of whatever buyers with the same payment fingerprint.
    """

    pending: int = 0
    unpaid: int = 0
    paid: int = 0
    fingerprint_pending: int = 0


class _Kept(NamedTuple):
    history: BuyerHistory
    until_s: float


class _Question(NamedTuple):
    key: bytes
    buyer: hoarding_pb2.BuyerKey
    answer: asyncio.Future[BuyerHistory]


class BuyerHistories:
    """Asks order_svc for all buyers who come at the same time at once."""

    def __init__(
        self,
        stub: "hoarding_pb2_grpc.BuyerHistoryServiceAsyncStub",
        *,
        window_s: float,
        kept_s: float,
        timeout_s: float,
    ) -> None:
        """
        Args:
            stub: of order_svc.
            window_s: how far back unpaid and paid orders count.
            kept_s: how long an answer is used again.
            timeout_s: longest time for a batch.
        """
        self._stub = stub
        self._window_s = window_s
        self._kept_s = kept_s
        self._timeout_s = timeout_s
        self._kept: Recent[bytes, _Kept] = Recent(KEPT_MAX)
        self._asked: dict[bytes, asyncio.Future[BuyerHistory]] = {}
        self._queue: deque[_Question] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def get(self, user_id: str, fingerprint: bytes = b"") -> BuyerHistory:
        """Return a buyer's history, at most `kept_s` old.

        Args:
            user_id: the buyer.
            fingerprint: keyed hash of their payment fingerprint, of 16 bytes; empty for none.

        Raises:
            Overloaded, or what order_svc answers: it is not known, and cannot be asked for now.
        """
        key = hashlib.sha256(f"{user_id} ".encode() + fingerprint).digest()[:16]
        kept = self._kept.get(key)
        if kept is not None and kept.until_s > time.monotonic():
            return kept.history
        answer = self._asked.get(key)
        if answer is None:
            answer = self._ask(key, user_id, fingerprint)
        # One caller's cancellation must not end the question of the others.
        return await asyncio.shield(answer)

    def _ask(self, key: bytes, user_id: str, fingerprint: bytes) -> asyncio.Future[BuyerHistory]:
        """Queue a question. Raises Overloaded if too many wait."""
        if len(self._queue) >= WAITING_MAX:
            raise Overloaded("too many buyers are asked about")
        buyer = hoarding_pb2.BuyerKey(user_id=user_id, fingerprint=fingerprint)
        answer: asyncio.Future[BuyerHistory] = asyncio.get_running_loop().create_future()
        self._asked[key] = answer
        self._queue.append(_Question(key, buyer, answer))
        self._start_sender()
        return answer

    def _start_sender(self) -> None:
        """Have what is queued sent, unless enough senders are at work."""
        if self._queue and len(self._senders) < IN_FLIGHT_MAX:
            sender = asyncio.create_task(self._send_all(), name="buyer histories")
            self._senders.add(sender)
            sender.add_done_callback(self._end)

    def _end(self, sender: asyncio.Task[None]) -> None:
        """A sender has ended; what was queued since it looked last needs another one."""
        self._senders.discard(sender)
        self._start_sender()

    async def _send_all(self) -> None:
        """Batch after batch until the queue is empty."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            try:
                histories = await self._read(batch)
            except Exception as error:  # noqa: BLE001 - fails those who ask, not the next batch
                self._fail(batch, fault_of(error))
                continue
            until_s = time.monotonic() + self._kept_s
            for question, history in zip(batch, histories, strict=True):
                del self._asked[question.key]
                self._kept.put(question.key, _Kept(history, until_s))
                question.answer.set_result(history)

    async def _read(self, batch: list[_Question]) -> list[BuyerHistory]:
        request = hoarding_pb2.BatchGetBuyerHistoriesRequest(
            buyers=[question.buyer for question in batch]
        )
        request.window.FromNanoseconds(int(self._window_s * 1e9))
        try:
            response = await self._stub.BatchGetBuyerHistories(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="order") from error
        if len(response.histories) != len(batch):
            raise DependencyUnavailable("order answered for other buyers")
        return [
            BuyerHistory(
                pending=told.pending_orders,
                unpaid=told.unpaid_orders,
                paid=told.paid_orders,
                fingerprint_pending=told.fingerprint_pending_orders,
            )
            for told in response.histories
        ]

    def _fail(self, batch: list[_Question], error: SeckillError) -> None:
        for question in batch:
            del self._asked[question.key]
            question.answer.set_exception(error)
            # Nobody may be waiting any more: that is no defect.
            question.answer.exception()
