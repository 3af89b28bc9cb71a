"""RollbackService: what operators ask of the sweeper and the reconciler."""

from typing import Any

import grpc

from rollback_svc.comparison import Repair
from rollback_svc.reconciler import Reconciler
from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.runtime.clock import Clock
from seckill.runtime.delay import DelaySet
from seckill.runtime.server import time_left_s
from seckill.v1 import rollback_pb2, rollback_pb2_grpc, story_pb2
from seckill.validation import Violations

Context = grpc.aio.ServicerContext[Any, Any]


class RollbackService(rollback_pb2_grpc.RollbackServiceServicer):
    """Serves the contract in rollback.proto."""

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        reconciler: Reconciler,
        delay: DelaySet,
        clock: Clock,
        settings: RollbackSettings,
    ) -> None:
        self._sweeper = sweeper
        self._reconciler = reconciler
        self._reconcile_timeout_s = settings.rollback_reconcile_timeout_s
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
        """Compare one sale now, and repair as far as the request says."""
        violations = Violations()
        violations.sku("sku", request.sku)
        if request.repair_restock and not request.repair:
            violations.add("repair_restock", "needs repair")
        violations.check()
        report = await self._reconciler.reconcile(
            request.sku,
            timeout_s=time_left_s(context, self._reconcile_timeout_s),
            repair=_repair(request),
        )
        return report.to_response()

    async def GetStatus(
        self, request: rollback_pb2.GetStatusRequest, context: Context
    ) -> rollback_pb2.GetStatusResponse:
        """Return counts since the process started, and the delay set as it is now."""
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

    async def ExplainDelays(
        self, request: rollback_pb2.ExplainDelaysRequest, context: Context
    ) -> rollback_pb2.ExplainDelaysResponse:
        """Tell which of the orders are in the delay set."""
        del context
        violations = Violations()
        violations.batch("order_nos", len(request.order_nos))
        violations.check()
        for index, number in enumerate(request.order_nos):
            violations.order_no(f"order_nos[{index}]", number)
        violations.check()
        # Each once: a number that is asked twice is told once.
        due_s = await self._delay.due_times_s(list(dict.fromkeys(request.order_nos)))
        response = rollback_pb2.ExplainDelaysResponse()
        for number, when_s in due_s.items():
            event = response.events.add(
                store=story_pb2.STORY_STORE_REDIS,
                kind="in the delay set",
                order_no=number,
                text="rollback looks at it at this time, or is settling it",
            )
            event.time.FromMilliseconds(int(when_s * 1000))
        return response


def _repair(request: rollback_pb2.ReconcileRequest) -> Repair:
    if not request.repair:
        return Repair.NOTHING
    return Repair.ACCOUNTED | Repair.RESTOCK if request.repair_restock else Repair.ACCOUNTED
