"""Configurations of the stores with which what was acknowledged may be lost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
# Finds what is wrong: a sentence for each setting. None where the store does not let us look.
# Raises DependencyUnavailable where it does not answer.
Look = Callable[[], Awaitable[Sequence[str] | None]]
LOOK_TIMEOUT_S = 10.0
# While something is wrong an operator is putting it right.
WRONG_INTERVAL_S = 1.0


class UnsafeConfiguration(Exception):
    """A store is configured so that it may lose what it has acknowledged."""


class ConfigurationCheck:
    """Looks at a store's settings now and then; a readiness check tells what was seen last.

    A store that does not answer changes nothing: whether it must is another check's matter.
    """

    def __init__(
        self,
        store: str,
        look: Look,
        *,
        interval_s: float,
        hidden: Callable[[], None] = lambda: None,
    ) -> None:
        """Describe it.

        Args:
            store: what it is about, for the log.
            look: asks the store.
            interval_s: pause between looks.
            hidden: called where the store does not let us look, e.g. to set a metric.
        """
        self._store = store
        self._look = look
        self._interval_s = interval_s
        self._hidden = hidden
        self._problems: Sequence[str] = ("not looked at yet",)
        self._told = False

    async def check(self) -> None:
        """Raises UnsafeConfiguration naming each setting and its value."""
        if self._problems:
            raise UnsafeConfiguration(f"{self._store}: {'; '.join(self._problems)}")

    async def run(self) -> None:
        """Look until cancelled."""
        looked = False
        while True:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    self._problems = self._seen(await self._look())
                looked = True
            except (DependencyUnavailable, TimeoutError) as error:
                log.warning("configuration not looked at", store=self._store, error=repr(error))
                if not looked:
                    self._problems = ()
            await asyncio.sleep(
                WRONG_INTERVAL_S if self._problems or not looked else self._interval_s
            )

    def _seen(self, found: Sequence[str] | None) -> Sequence[str]:
        if found is None and not self._told:
            self._told = True
            self._hidden()
            log.warning("configuration cannot be read, taken for safe", store=self._store)
        if found and found != self._problems:
            log.error("configuration is unsafe", store=self._store, problems=list(found))
        return found or ()
