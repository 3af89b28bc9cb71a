"""RollbackService: what operators ask of the sweeper."""

from typing import Any

import grpc

from rollback_svc.sweeper import Sweeper
from seckill.clock import Clock
from seckill.delay import DelaySet
from seckill.errors import NotImplementedYet
from seckill.v1 import rollback_pb2, rollback_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RollbackService(rollback_pb2_grpc.RollbackServiceServicer):
    """Serves the contract in rollback.proto."""

    def __init__(self, *, sweeper: Sweeper, delay: DelaySet, clock: Clock) -> None:
        self._sweeper = sweeper
        self._delay = delay
        self._clock = clock

    async def Sweep(
        self, request: rollback_pb2.SweepRequest, context: Context
    ) -> rollback_pb2.SweepResponse:
        """Run a whole round now; raises the first fault that it met, its other work is done.

        Sales that cannot take units back now are no fault: their orders count as cancelled only.
        """
        del request, context
        result = await self._sweeper.run_once(self._clock.now_s(), everything=True)
        if result.errors:
            raise result.errors[0]
        return rollback_pb2.SweepResponse(
            cancelled_orders=len(result.unrestored), restored_units=result.restored_units
        )

    async def Reconcile(
        self, request: rollback_pb2.ReconcileRequest, context: Context
    ) -> rollback_pb2.ReconcileResponse:
        """Not served by this release."""
        del request, context
        raise NotImplementedYet

    async def GetStatus(
        self, request: rollback_pb2.GetStatusRequest, context: Context
    ) -> rollback_pb2.GetStatusResponse:
        """Counts since the process began, and the delay set as it is now."""
        del request, context
        due, delayed = await self._delay.counts(now_s=self._clock.now_s())
        status = rollback_pb2.GetStatusResponse(
            rounds=self._sweeper.rounds,
            restored_units=self._sweeper.restored_units,
            due_orders=due,
            delayed_orders=delayed,
        )
        if self._sweeper.last_success_s is not None:
            status.last_success_time.FromNanoseconds(int(self._sweeper.last_success_s * 1e9))
        return status
