"""What the metrics are told of the front's calls, once a turn and not once a call."""

from collections.abc import Callable, Sequence

import grpc

from gateway.front.call import BatchedMethod
from gateway.front.call_batch import CallBatch
from gateway.front.queue import QueuedCall
from gateway.metrics import (
    GATEWAY_CONNECTIONS_CLOSED_TOTAL,
    GATEWAY_CONNECTIONS_COUNT,
    GATEWAY_SIEVED_TOTAL,
)
from seckill.runtime.telemetry import server_metrics


class FrontMetrics:
    """Counts calls by method and status, and connections by why they ended."""

    def __init__(self, methods: Sequence[BatchedMethod], *, clock: Callable[[], float]) -> None:
        self._methods = [server_metrics.method(method.path, streaming=False) for method in methods]
        self._clock = clock
        self._dirty: list[CallBatch] = []
        self._unhandled: dict[tuple[int, grpc.StatusCode], int] = {}

    def begin_batch(self, index: int, calls: Sequence[QueuedCall], now_s: float) -> None:
        """Calls of a method are handled from now on."""
        metrics = self._methods[index]
        metrics.batch_begun(len(calls))
        batch = CallBatch(metrics, now_s)
        for call in calls:
            call.batch = batch

    def count(self, call: QueuedCall, code: grpc.StatusCode) -> None:
        """A call has ended: it is written with the next answers."""
        batch = call.batch
        if batch is None:
            self.count_unhandled(call.index, code)
            return
        batch.count(code)
        if not batch.dirty:
            batch.dirty = True
            self._dirty.append(batch)

    def count_unhandled(self, index: int, code: grpc.StatusCode, count: int = 1) -> None:
        """Calls of a method have ended without being handled."""
        key = (index, code)
        self._unhandled[key] = self._unhandled.get(key, 0) + count

    def count_sieved(self, indexes: Sequence[int]) -> None:
        """Calls of these methods were refused by the sieve."""
        for index in set(indexes):
            self.count_unhandled(index, grpc.StatusCode.RESOURCE_EXHAUSTED, indexes.count(index))
        GATEWAY_SIEVED_TOTAL.inc(len(indexes))

    def count_connections(self, change: int) -> None:
        """So many more connections are open."""
        GATEWAY_CONNECTIONS_COUNT.inc(change)

    def count_closed(self, reason: str) -> None:
        """A connection is being closed by us."""
        GATEWAY_CONNECTIONS_CLOSED_TOTAL.labels(reason).inc()

    def write(self) -> None:
        """Write what has been noted."""
        if self._dirty:
            now_s = self._clock()
            dirty, self._dirty = self._dirty, []
            for batch in dirty:
                batch.write(now_s)
        if self._unhandled:
            unhandled, self._unhandled = self._unhandled, {}
            for (index, code), count in unhandled.items():
                metrics = self._methods[index]
                metrics.batch_begun(count)
                metrics.batch_ended(code, count, seconds=0.0)
