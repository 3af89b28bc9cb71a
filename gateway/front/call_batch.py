"""Calls that are handled together, as the metrics see them."""

import grpc

from seckill.runtime.telemetry import MethodMetrics


class CallBatch:
    """The calls of one method that are handled together: what the metrics are told of them.

    Attributes:
        begun_s: monotonic time at which they got to their handler.
        dirty: some of its calls have ended since the metrics were last written.
    """

    __slots__ = ("_failed", "_metrics", "_responded", "begun_s", "dirty")

    def __init__(self, metrics: MethodMetrics, begun_s: float) -> None:
        self._metrics = metrics
        self.begun_s = begun_s
        self._responded = 0
        self._failed: dict[grpc.StatusCode, int] = {}
        self.dirty = False

    def count(self, code: grpc.StatusCode) -> None:
        """One of its calls has ended."""
        if code is grpc.StatusCode.OK:
            self._responded += 1
        else:
            self._failed[code] = self._failed.get(code, 0) + 1

    def write(self, now_s: float) -> None:
        """Write the metrics of the calls that have ended."""
        seconds = now_s - self.begun_s
        if self._responded:
            self._metrics.batch_ended(grpc.StatusCode.OK, self._responded, seconds=seconds)
        for code, count in self._failed.items():
            self._metrics.batch_ended(code, count, seconds=seconds)
        self._responded = 0
        self._failed.clear()
        self.dirty = False
