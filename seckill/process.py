"""The life of a stage: start, serve, drain on SIGTERM, end.

One AsyncExitStack is the lifespan: what was opened last is closed first. A background task that
dies ends the process; whoever supervises it starts it anew.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import structlog
import uvloop

from seckill import failpoints
from seckill.listening import CannotListen
from seckill.server import Health
from seckill.settings import ProcessSettings, load
from seckill.telemetry import configure_logs, metrics_server

HEALTH_INTERVAL_S = 1.0
HEALTH_TIMEOUT_S = 1.0
# A store may miss this many checks in a row before the stage says it is not ready.
HEALTH_MISSES_MAX = 3
# A background task may finish what it is doing; after this it is cancelled again.
CANCELLATION_PATIENCE_S = 7.0
CANCELLATIONS_MAX = 3
# Objects made, and not yet freed, between two collections of the youngest.
YOUNG_OBJECTS_MAX = 20_000

T = TypeVar("T")
SettingsT = TypeVar("SettingsT", bound=ProcessSettings)
HealthCheck = Callable[[], Awaitable[Any]]
log = structlog.get_logger()


class Process:
    """Handed to a stage's `serve`: where it registers what it opens and what runs beside it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Open `context` now, close it when the process ends."""
        return await self._stack.enter_async_context(context)

    async def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the server until the process ends; its failure ends the process."""
        await self.enter(self._running(name, work))

    @asynccontextmanager
    async def _running(self, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        try:
            yield
        finally:
            task.remove_done_callback(self._task_ended)
            await _end(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if self._ended.done():
            return
        # Not cancelled by us: a library has let its own cancellation out, and the work is not done.
        error = None if task.cancelled() else task.exception()
        error = error or RuntimeError(f"task {task.get_name()} ended by itself")
        log.error("background task died", task=task.get_name(), exc_info=error)
        self._ended.set_exception(error)

    def stop(self) -> None:
        """End the process in good order."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def until_stopped(self, health: Health, checks: Mapping[str, HealthCheck]) -> None:
        """Serve until `stop`; ready while every one of `checks` succeeds.

        Raises what a background task raised.
        """
        _spare_the_collector()
        async with self._running("health", _watch_health(health, checks)):
            await self._ended
        await health.set_ready(False)


def _spare_the_collector() -> None:
    """What has been imported and opened stays: no collection need look at it ever again.

    A batch makes some thousand objects that live for milliseconds. With the default threshold each
    batch pays for several collections, and now and then for one of everything (6 % of inventory).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it; again where a library has swallowed the cancellation."""
    for _ in range(CANCELLATIONS_MAX):
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=CANCELLATION_PATIENCE_S)
        if done:
            return
        log.warning("background task does not end", task=task.get_name(), where=_where(task))


def _where(task: asyncio.Task[None]) -> list[str]:
    """What a task waits for: function and line of each coroutine, the innermost last."""
    places: list[str] = []
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        waiting = waiting.cr_await
    return places


async def _watch_health(health: Health, checks: Mapping[str, HealthCheck]) -> None:
    misses = dict.fromkeys(checks, 0)
    while True:
        for name, check in checks.items():
            try:
                async with asyncio.timeout(HEALTH_TIMEOUT_S):
                    await check()
                misses[name] = 0
            except Exception as error:  # noqa: BLE001 - any failure of a check is a miss
                misses[name] += 1
                log.warning("health check failed", check=name, error=repr(error))
        # Ready only once everything has answered; then a few misses are forgiven.
        allowed = HEALTH_MISSES_MAX if health.ready else 1
        ready = all(count < allowed for count in misses.values())
        if ready != health.ready:
            log.info("readiness changed", ready=ready)
            await health.set_ready(ready)
        await asyncio.sleep(HEALTH_INTERVAL_S if ready else HEALTH_INTERVAL_S / 5)


async def _main(
    stage: str,
    metrics_listen: str,
    settings: SettingsT,
    serve: Callable[[SettingsT, Process], Awaitable[None]],
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics_server(metrics_listen))
        process = Process(stack)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        log.info("starting", stage=stage)
        await serve(settings, process)
        log.info("stopping", stage=stage)
    log.info("stopped", stage=stage)


def run(
    stage: str,
    settings_type: type[SettingsT],
    serve: Callable[[SettingsT, Process], Awaitable[None]],
) -> None:
    """Run a stage to its end; exits with 1 where it failed, with 2 on a bad setting.

    `settings_type` has a field `<stage>_metrics_listen`.
    """
    settings = load(settings_type)
    configure_logs(settings, stage=stage)
    failpoints.arm(settings.failpoints)
    metrics_listen: str = getattr(settings, f"{stage}_metrics_listen")
    try:
        uvloop.run(_main(stage, metrics_listen, settings, serve))
    except CannotListen as error:
        field = next((name for name, value in settings if value == error.address), "")
        log.error(str(error), setting=f"SECKILL_{field.upper()}")  # noqa: TRY400 - no trace needed
        sys.exit(1)
    except Exception:
        log.exception("stage failed")
        sys.exit(1)
