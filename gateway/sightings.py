"""Tells order_svc from where orders were reserved, a moment afterwards: only of those reserved.

The path of a purchase has nothing of it. What cannot be told soon is dropped and counted: it helps
operators to see who bought together, and nothing depends on it.
"""

import asyncio
from collections import deque

import grpc
import structlog

from gateway.metrics import SIGHTINGS_DROPPED_TOTAL
from seckill.v1 import hoarding_pb2, hoarding_pb2_grpc

BATCH_MAX = 512
WAITING_MAX = 10_000
INTERVAL_S = 0.2
TIMEOUT_S = 3.0
# Tries for one batch, an interval apart and then longer: an outage of seconds loses nothing.
TRIES_MAX = 6

log = structlog.get_logger()


class Sightings:
    """A queue of sightings, and the one task that sends them."""

    def __init__(self, stub: "hoarding_pb2_grpc.BuyerHistoryServiceAsyncStub") -> None:
        """`stub`: of order_svc."""
        self._stub = stub
        self._queue: deque[hoarding_pb2.OrderSighting] = deque()
        self._noted = asyncio.Event()

    def note(self, order_no: str, *, address: bytes, fingerprint: bytes) -> None:
        """Queue a sighting; the hashes are empty if there is nothing to tell."""
        if not address and not fingerprint:
            return
        if len(self._queue) >= WAITING_MAX:
            SIGHTINGS_DROPPED_TOTAL.inc()
            return
        self._queue.append(
            hoarding_pb2.OrderSighting(order_no=order_no, address=address, fingerprint=fingerprint)
        )
        self._noted.set()

    async def run(self) -> None:
        """Send what is noted, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            # The others of this moment come with it.
            await asyncio.sleep(INTERVAL_S)
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                await self._send(batch)

    async def _send(self, batch: list[hoarding_pb2.OrderSighting]) -> None:
        request = hoarding_pb2.RecordSightingsRequest(sightings=batch)
        pause_s = INTERVAL_S
        for tries in range(1, TRIES_MAX + 1):
            try:
                await self._stub.RecordSightings(request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                last = error
            else:
                return
            if tries < TRIES_MAX:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        SIGHTINGS_DROPPED_TOTAL.inc(len(batch))
        log.warning("sightings dropped", count=len(batch), error=last.code().name)
