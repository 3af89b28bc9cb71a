"""Admission by time, by the rules of the gateway's front: calls that would wait too long go."""

from simpy import Environment

from seckill_cli.scale.layout import Limits

# As in the front (gateway/front/load.py).
TICK_S, SMOOTHING = 0.05, 0.2


class Admission:
    """Predicts the wait of a gateway from the calls in flight and the rate of its answers."""

    def __init__(self, env: Environment, limits: Limits, deadline_s: float) -> None:
        self._env = env
        self._limits = limits
        self._wait_max_s = min(limits.wait_share * deadline_s, limits.wait_max_s)
        self._per_s = 0.0
        self._answered = 0
        self._since_s = env.now
        self._least = 0
        self._in_flight = 0

    def admit(self, calls: int) -> int:
        """Let in as many of the calls as would not wait too long; returns how many."""
        self._tick()
        limits = self._limits
        most = limits.calls_max
        if self._per_s:
            most = min(most, max(limits.busy_calls, int(self._wait_max_s * self._per_s)))
        admitted = max(0, min(calls, most - self._in_flight))
        self._in_flight += admitted
        return admitted

    def answered(self, calls: int) -> None:
        """Note calls that are in flight no more."""
        self._tick()
        self._in_flight -= calls
        self._answered += calls
        self._least = min(self._least, self._in_flight)

    def _tick(self) -> None:
        passed_s = self._env.now - self._since_s
        if passed_s < TICK_S:
            return
        seen = self._answered / passed_s
        if self._least >= self._limits.busy_calls:
            self._per_s += (SMOOTHING if self._per_s else 1.0) * (seen - self._per_s)
        elif self._per_s:
            self._per_s = max(self._per_s, seen)
        self._since_s, self._answered, self._least = self._env.now, 0, self._in_flight
