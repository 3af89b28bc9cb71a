"""What this service looks at before a sale: Redis, its rounds, and what is due."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.findings import FAILED, OK, WARNING, Check, Crowd, Finding
from seckill.runtime.clock import Clock
from seckill.runtime.delay import DelaySet
from seckill.runtime.preflight.common import certificates, clock_of, readiness, redis_now_s
from seckill.runtime.preflight.service import PreflightServicer

if TYPE_CHECKING:
    import redis.asyncio

# Rounds that may fail before units stay out for longer than the database's own sweep takes.
ROUNDS_MISSED_MAX = 3


def build_preflight(
    settings: RollbackSettings,
    client: "redis.asyncio.Redis",
    *,
    sweeper: Sweeper,
    delay: DelaySet,
    clock: Clock,
    readiness_checks: Mapping[str, Callable[[], Awaitable[Any]]],
) -> PreflightServicer:
    """Return what operators ask before a sale.

    Args:
        readiness_checks: those that the process is ready by.
    """
    rounds = _Rounds(settings, sweeper, delay, clock)
    checks: list[Check] = [
        readiness(readiness_checks),
        clock_of("redis", lambda: redis_now_s(client)),
        rounds.last,
        rounds.due,
        certificates(settings),
    ]
    return PreflightServicer("rollback", checks)


class _Rounds:
    """Looks at the rounds that bring units back."""

    def __init__(
        self, settings: RollbackSettings, sweeper: Sweeper, delay: DelaySet, clock: Clock
    ) -> None:
        self._settings = settings
        self._sweeper = sweeper
        self._delay = delay
        self._clock = clock

    async def last(self, _: Crowd) -> Sequence[Finding]:
        last_s = self._sweeper.last_success_s
        advice = "the order and the inventory service must answer it: its log says which does not"
        if last_s is None:
            return [Finding("rounds", FAILED, "none has succeeded yet", advice)]
        age_s = self._clock.now_s() - last_s
        found = f"the last one succeeded {age_s:.0f} s ago"
        allowed_s = (
            ROUNDS_MISSED_MAX * self._settings.rollback_interval_s
            + self._settings.rollback_database_interval_s
        )
        if age_s > allowed_s:
            return [Finding("rounds", FAILED, found, advice)]
        return [Finding("rounds", OK, found)]

    async def due(self, _: Crowd) -> Sequence[Finding]:
        due, waiting = await self._delay.counts(now_s=self._clock.now_s())
        found = f"{due} orders are due, {waiting} wait for payment"
        if due > self._settings.rollback_page_size * self._settings.rollback_pages_max:
            advice = "wait until they are settled: seckill_delay_due_orders falls to 0"
            return [Finding("units to come back", WARNING, found, advice)]
        return [Finding("units to come back", OK, found)]
