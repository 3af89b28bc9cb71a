"""Runs the handlers on the calls that arrived together."""

import asyncio
import time
from collections.abc import Sequence

from gateway.front.call import BatchedMethod, Call, id_of_batch, ids_of, span_of
from seckill.errors import DeadlinePassed
from seckill.runtime import request_ids, tracing
from seckill.runtime.faults import fault_of, is_ended


class Batches:
    """Starts a handler for each batch, and keeps it until it has ended."""

    def __init__(self) -> None:
        # The loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, method: BatchedMethod, calls: Sequence[Call]) -> None:
        """Begin a batch; returns before it is handled. `calls` are in order of arrival."""
        now_s = time.monotonic()
        alive: list[Call] = []
        for call in calls:
            if call.cancelled:
                continue
            if call.deadline_s <= now_s:
                call.fail(DeadlinePassed())
            else:
                alive.append(call)
        if alive:
            task = asyncio.create_task(_run(method, alive), name=method.path)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _run(method: BatchedMethod, calls: Sequence[Call]) -> None:
    """Run a handler; if it fails as a whole, so do the calls it has not answered."""
    request_ids.bind(id_of_batch(calls))
    if tracing.tracer is not None:
        tracing.enter(span_of(calls))
    try:
        await method.handle(calls)
    except (Exception, asyncio.CancelledError) as error:
        if is_ended(error):
            raise
        fault = fault_of(error, method=method.path, calls=len(calls), ids=ids_of(calls))
        for call in calls:
            call.fail(fault)
