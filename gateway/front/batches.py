"""What both fronts do with the calls that arrived together."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from gateway.front.call import Call, HotMethod
from seckill.errors import DeadlinePassed, InvalidField, Overloaded
from seckill.server import fault_of, is_ended

# The longest legal request of a hot method has under a kilobyte.
REQUEST_BYTES_MAX = 16 * 1024

log = structlog.get_logger()


class Batches:
    """Refuses what cannot be served, and starts the handlers for the rest."""

    def __init__(self, *, calls_max: int) -> None:
        """`calls_max`: calls under way at once; those beyond it are refused."""
        self._calls_max = calls_max
        # The loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, method: HotMethod, calls: Sequence[Call], *, under_way: int) -> None:
        """Begin a batch; returns before it is handled.

        Args:
            calls: in order of arrival.
            under_way: calls that are not answered yet, without these.
        """
        admitted = self._admit(calls, room=self._calls_max - under_way)
        if admitted:
            task = asyncio.create_task(_run(method, admitted), name=method.path)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _admit(calls: Sequence[Call], *, room: int) -> list[Call]:
        now_s = time.monotonic()
        admitted: list[Call] = []
        for call in calls:
            if call.cancelled:
                continue
            if call.deadline_s <= now_s:
                call.fail(DeadlinePassed())
            elif len(call.payload) > REQUEST_BYTES_MAX:
                call.fail(InvalidField([("request", f"has more than {REQUEST_BYTES_MAX} bytes")]))
            elif len(admitted) >= room:
                call.fail(Overloaded())
            else:
                admitted.append(call)
        return admitted


async def _run(method: HotMethod, calls: Sequence[Call]) -> None:
    """Run a handler; where it fails as a whole, so do the calls it has not answered."""
    try:
        await method.handle(calls)
    except (Exception, asyncio.CancelledError) as error:
        if is_ended(error):
            raise
        log.exception("batch failed", method=method.path, calls=len(calls))
        fault = fault_of(error)
        for call in calls:
            call.fail(fault)
