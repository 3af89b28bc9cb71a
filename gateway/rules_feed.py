"""Follows the rules of the gate as the order service streams them, and keeps the last ones."""

import asyncio
import math
import time
from collections.abc import Callable

import grpc
import structlog

from gateway.metrics import GATEWAY_RULES_REVISION, GATEWAY_RULES_STREAM_UP, watch_rules_age
from gateway.rules import NO_RULES, GateRules, RulesHeard
from seckill.errors import DependencyUnavailable
from seckill.runtime.retry import until_success
from seckill.v1 import gate_pb2, gate_pb2_grpc

RECONNECT_MIN_S, RECONNECT_MAX_S = 0.1, 2.0
# Timers do not count so far ahead.
EXPIRY_WAIT_MAX_S = 3_600.0
log = structlog.get_logger()


class RulesFeed:
    """The rules in force, and the one task that keeps them so.

    Attributes:
        rules: the last ones heard of; they stay through an outage, and entries expire all the same.
    """

    def __init__(
        self,
        stub: "gate_pb2_grpc.GateRulesServiceAsyncStub",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: Unix time, by which entries expire."""
        self.rules: GateRules = NO_RULES
        self._stub = stub
        self._clock = clock
        self._heard = RulesHeard()
        self._listeners: list[Callable[[GateRules], None]] = []
        self._expiry: asyncio.TimerHandle | None = None
        # None while the stream is up.
        self._down_since_s: float | None = time.monotonic()
        watch_rules_age(self.age_s)

    def on_change(self, listener: Callable[[GateRules], None]) -> None:
        """Have `listener` called with the rules now, and whenever others are in force."""
        self._listeners.append(listener)
        listener(self.rules)

    def age_s(self) -> float:
        """Return for how long no rules could be heard of; 0 while they are streamed."""
        return 0.0 if self._down_since_s is None else time.monotonic() - self._down_since_s

    async def run(self) -> None:
        """Follow the stream until cancelled, connecting again whenever it breaks."""
        while True:
            # Pauses grow while nothing is heard, and start over after a stream that worked.
            async for attempt in until_success(
                "watch gate rules",
                on=DependencyUnavailable,
                wait_min_s=RECONNECT_MIN_S,
                wait_max_s=RECONNECT_MAX_S,
            ):
                with attempt:
                    try:
                        await self._follow_once()
                    finally:
                        self._broken()
            await asyncio.sleep(RECONNECT_MIN_S)

    async def _follow_once(self) -> None:
        """Follow one stream to its end; raise DependencyUnavailable if it brought no message."""
        heard = False
        reason = "the stream ended"
        try:
            async for message in self._stub.WatchGateRules(gate_pb2.WatchGateRulesRequest()):
                self.apply(message)
                heard = True
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        if not heard:
            raise DependencyUnavailable(reason)
        log.warning("gate rules stream broke", reason=reason)

    def _broken(self) -> None:
        self._heard.broken()
        if self._down_since_s is None:
            self._down_since_s = time.monotonic()
        GATEWAY_RULES_STREAM_UP.set(0)

    def apply(self, message: gate_pb2.WatchGateRulesResponse) -> None:
        """Take in a message of the stream; the rules are in force when it is the last of them."""
        if self._heard.take(message):
            self._down_since_s = None
            GATEWAY_RULES_STREAM_UP.set(1)
            self._build()

    def _build(self) -> None:
        now_s = self._clock()
        rules = self._heard.build(now_s)
        if rules.revision != self.rules.revision:
            log.info("gate rules in force", revision=rules.revision)
        self.rules = rules
        GATEWAY_RULES_REVISION.set(rules.revision)
        self._await_expiry(now_s)
        for listener in self._listeners:
            listener(rules)

    def _await_expiry(self, now_s: float) -> None:
        """Build the rules again when the next entry expires."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        expiry_s = self._heard.next_expiry_s(now_s)
        if expiry_s < math.inf:
            wait_s = min(expiry_s - now_s, EXPIRY_WAIT_MAX_S)
            self._expiry = asyncio.get_running_loop().call_later(wait_s, self._build)
