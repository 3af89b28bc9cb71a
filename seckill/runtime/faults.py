"""From what a handler raises to the fault that its caller is told, and to the line in the log."""

import asyncio
import time
from collections.abc import Mapping

import grpc
import structlog

from seckill.errors import OutcomeUnknown, RemoteError, SeckillError
from seckill.runtime import request_ids

# Lines a second about calls that failed because a store or a service was away. While it is, every
# call says the same.
LINES_PER_S_MAX = 50
# Statuses that are the mesh's own fault, so that its logs have more about them.
_OWN_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)

log = structlog.get_logger()


def is_ended(error: BaseException) -> bool:
    """Return whether `error` ends the task it is raised in, e.g. because the caller has left.

    Libraries also let cancellations of their own tasks out; those are faults like any other.
    """
    task = asyncio.current_task()
    ending = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and ending


def fault_of(error: BaseException, **about: object) -> SeckillError:
    """Return the fault to answer with for `error`, raised while a call was handled.

    What the mesh is to blame for carries the id of the call, and has a line in the log under the
    same id: with a traceback if it is anything but a SeckillError, of which the caller is told
    nothing else. `about`: further fields of the line.
    """
    request_id = request_ids.current() or request_ids.new()
    if isinstance(error, SeckillError):
        if error.code in _OWN_FAULTS:
            _budget.write(error, {**about, "request_id": request_id})
            _name(error, request_id)
        return error
    log.error("call failed", **about, request_id=request_id, exc_info=error)
    fault = SeckillError()
    if isinstance(error, asyncio.CancelledError):
        # Not passed on: gRPC would send nothing, and the caller wait for as long as it can.
        fault = OutcomeUnknown("the work was cancelled within the service")
    _name(fault, request_id)
    return fault


def _name(fault: SeckillError, request_id: str) -> None:
    # A fault of another service has its id already, which is this one unless we sent none.
    if not isinstance(fault, RemoteError):
        fault.metadata = {**fault.metadata, request_ids.METADATA_KEY: request_id}


class _LineBudget:
    """Writes lines about faults, so many a second, and then how many were left out."""

    def __init__(self, lines_per_s_max: int) -> None:
        self._lines_max = lines_per_s_max
        self._second = 0
        self._written = 0
        self._left_out = 0

    def write(self, fault: SeckillError, about: Mapping[str, object]) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                log.warning("failed calls left out of the log", calls=self._left_out)
            self._second, self._written, self._left_out = second, 0, 0
        if self._written < self._lines_max:
            self._written += 1
            log.warning("call failed", **about, code=fault.code.name, error=str(fault))
        else:
            self._left_out += 1


_budget = _LineBudget(LINES_PER_S_MAX)
