"""Checks that the stores are configured to keep what they acknowledge."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import Gauge

from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
# Returns a sentence for each unsafe setting, or None if the store does not let us read them.
# Raises DependencyUnavailable if the store does not answer.
Look = Callable[[], Awaitable[Sequence[str] | None]]
LOOK_TIMEOUT_S = 10.0
# While a setting is unsafe an operator is about to change it.
WRONG_INTERVAL_S = 1.0
STORE_UNSAFE_SETTINGS = Gauge(
    "seckill_store_unsafe_settings",
    "Settings of a store with which it may lose what it has acknowledged, as last read.",
    ["store"],
)


class UnsafeConfiguration(Exception):
    """A store is configured in a way that may lose what it has acknowledged."""


class ConfigurationCheck:
    """Reads a store's settings from time to time; a readiness check reports what it last saw.

    A store that does not answer changes nothing: that is what other readiness checks are for.
    """

    def __init__(
        self,
        store: str,
        look: Look,
        *,
        interval_s: float,
        hidden: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a check; `run` starts it.

        Args:
            store: its name, for the log.
            look: reads the store's settings.
            interval_s: pause between looks.
            hidden: called if the store does not let us read its settings, e.g. to set a metric.
        """
        self._store = store
        self._look = look
        self._interval_s = interval_s
        self._hidden = hidden
        self._problems: Sequence[str] = ("not looked at yet",)
        self._told = False
        self._unsafe = STORE_UNSAFE_SETTINGS.labels(store)

    async def check(self) -> None:
        """Raise UnsafeConfiguration, naming each unsafe setting and its value, if there is one."""
        if self._problems:
            raise UnsafeConfiguration(f"{self._store}: {'; '.join(self._problems)}")

    async def run(self) -> None:
        """Look again and again until cancelled."""
        looked = False
        while True:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    self._problems = self._seen(await self._look())
                looked = True
            except (DependencyUnavailable, TimeoutError) as error:
                log.warning("configuration check failed", store=self._store, error=repr(error))
                if not looked:
                    self._problems = ()
            await asyncio.sleep(
                WRONG_INTERVAL_S if self._problems or not looked else self._interval_s
            )

    def _seen(self, found: Sequence[str] | None) -> Sequence[str]:
        if found is None and not self._told:
            self._told = True
            self._hidden()
            log.warning("configuration is not readable, assumed safe", store=self._store)
        if found and found != self._problems:
            log.error("configuration is unsafe", store=self._store, problems=list(found))
        self._unsafe.set(len(found or ()))
        return found or ()
