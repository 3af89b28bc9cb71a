"""The life of a service: start, serve, drain on SIGTERM, end.

One AsyncExitStack is the lifespan: what was opened last is closed first. A background task that
dies ends the process; its supervisor (Kubernetes, Docker, `seckill up`) starts it again.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import structlog
from prometheus_client import Gauge

from seckill.runtime import failpoints, keyspace
from seckill.runtime.event_loop import EventLoop
from seckill.runtime.listening import CannotListen
from seckill.runtime.server import Health
from seckill.runtime.settings import ProcessSettings, load, refuse
from seckill.runtime.telemetry import configure_logs, metrics_server
from seckill.runtime.traced import traced
from seckill.runtime.unknown_variables import unknown_variables

HEALTH_INTERVAL_S = 1.0
HEALTH_TIMEOUT_S = 1.0
# A store may miss this many checks in a row before the service says it is not ready.
HEALTH_MISSES_MAX = 3
# How long a cancelled task may take to end before it is cancelled again.
CANCELLATION_PATIENCE_S = 7.0
CANCELLATIONS_MAX = 3
# Objects allocated, less those freed, between two collections of the youngest generation.
YOUNG_OBJECTS_MAX = 20_000

READY = Gauge("seckill_ready", "1 while the service says that it can serve.", ["service"])
HEALTH_CHECK_FAILED = Gauge(
    "seckill_health_check_failed",
    "1 while the last run of a check that readiness needs has failed.",
    ["check"],
)

T = TypeVar("T")
SettingsT = TypeVar("SettingsT", bound=ProcessSettings)
HealthCheck = Callable[[], Awaitable[Any]]
log = structlog.get_logger()


class Process:
    """The lifespan of a service: what its `serve` opens and what it runs in the background."""

    def __init__(self, stack: AsyncExitStack, *, service: str) -> None:
        """`service`: its name, for the metrics."""
        self._stack = stack
        self._ready = READY.labels(service)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Open `context` now and close it when the process ends."""
        return await self._stack.enter_async_context(context)

    async def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background; if it ends before the process does, it ends the process."""
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
        # Not cancelled by us: a library let its own cancellation out, and the work is not done.
        error = None if task.cancelled() else task.exception()
        error = error or RuntimeError(f"task {task.get_name()} ended by itself")
        log.error("background task died", task=task.get_name(), exc_info=error)
        self._ended.set_exception(error)

    def stop(self) -> None:
        """End the process gracefully."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def until_stopped(self, health: Health, checks: Mapping[str, HealthCheck]) -> None:
        """Serve until `stop` is called; ready while every one of `checks` succeeds.

        Raises:
            Exception: what a background task raised.
        """
        _freeze_gc()
        watch = _watch_health(health, checks, self._ready)
        async with self._running("health", watch):
            await self._ended
        self._ready.set(0)
        await health.set_ready(False)


def _freeze_gc() -> None:
    """Exempt everything imported and opened so far from garbage collection: it stays.

    A batch allocates some thousand objects that live for milliseconds. With the default threshold
    each batch pays for several collections, and at times for a full one (6 % of inventory's CPU).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it; cancel again if a library swallowed the cancellation."""
    for _ in range(CANCELLATIONS_MAX):
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=CANCELLATION_PATIENCE_S)
        if done:
            return
        log.warning("background task does not end", task=task.get_name(), where=_where(task))


def _where(task: asyncio.Task[None]) -> list[str]:
    """Return what a task waits for: function and line of each coroutine, the innermost last."""
    places: list[str] = []
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        waiting = waiting.cr_await
    return places


async def _watch_health(health: Health, checks: Mapping[str, HealthCheck], shown: Gauge) -> None:
    misses = dict.fromkeys(checks, 0)
    failed = {name: HEALTH_CHECK_FAILED.labels(name) for name in checks}
    while True:
        for name, check in checks.items():
            try:
                async with asyncio.timeout(HEALTH_TIMEOUT_S):
                    await check()
                misses[name] = 0
            except Exception as error:  # noqa: BLE001 - any failure of a check is a miss
                misses[name] += 1
                log.warning("health check failed", check=name, error=repr(error))
            failed[name].set(misses[name] > 0)
        # Ready once every check has succeeded; from then on a few misses are tolerated.
        allowed = HEALTH_MISSES_MAX if health.ready else 1
        ready = all(count < allowed for count in misses.values())
        if ready != health.ready:
            log.info("readiness changed", ready=ready)
            await health.set_ready(ready)
        shown.set(ready)
        await asyncio.sleep(HEALTH_INTERVAL_S if ready else HEALTH_INTERVAL_S / 5)


async def _main(
    service: str,
    metrics_listen: str,
    settings: SettingsT,
    serve: Callable[[SettingsT, Process], Awaitable[None]],
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics_server(metrics_listen))
        await stack.enter_async_context(traced(settings, service=service))
        process = Process(stack, service=service)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        log.info("starting", service=service)
        mesh = settings.mesh_tls()
        if mesh is not None:
            await process.spawn("mesh certificate", mesh.run())
        await serve(settings, process)
        log.info("stopping", service=service)
    log.info("stopped", service=service)


def run(
    service: str,
    settings_type: type[SettingsT],
    serve: Callable[[SettingsT, Process], Awaitable[None]],
) -> None:
    """Run a service until it ends; exit with 1 if it fails, with 2 if a setting is bad.

    `settings_type` has a field `<service>_metrics_listen`. A SECKILL_ variable that nothing reads
    is refused in production, where it may be a misspelt limit, and logged in development.
    """
    settings = load(settings_type)
    unknown = list(unknown_variables(settings_type, service=service))
    if unknown and settings.profile == "production":
        refuse("\n".join(unknown))
    configure_logs(settings, service=service)
    for problem in unknown:
        log.warning("unknown setting", problem=problem)
    failpoints.arm(settings.failpoints)
    keyspace.choose_prefix(getattr(settings, "redis_prefix", keyspace.DEFAULT))
    metrics_listen: str = getattr(settings, f"{service}_metrics_listen")
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(_main(service, metrics_listen, settings, serve))
    except CannotListen as error:
        field = next((name for name, value in settings if value == error.address), "")
        log.error(str(error), setting=f"SECKILL_{field.upper()}")  # noqa: TRY400 - no trace needed
        sys.exit(1)
    except Exception:
        log.exception("service failed")
        sys.exit(1)
