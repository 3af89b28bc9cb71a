"""Repeating a step until it succeeds: the one place that knows stamina."""

from collections.abc import AsyncIterator

import stamina
import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

log = structlog.get_logger()
Failures = type[Exception] | tuple[type[Exception], ...]


def until_success(
    step: str, *, on: Failures, wait_min_s: float, wait_max_s: float
) -> AsyncIterator[stamina.Attempt]:
    """Repeat the body of the loop until it raises none of `on`.

        async for attempt in until_success("relay", on=DependencyUnavailable, ...):
            with attempt:
                await relay.run_once()

    Args:
        step: names the step in the log, once for each repetition.
        on: failures that pass; any other one is raised at once.
        wait_min_s: pause after the first failure; it doubles, with jitter of the same size.
        wait_max_s: longest pause.
    """
    return stamina.retry_context(
        on=on,
        attempts=None,
        timeout=None,
        wait_initial=wait_min_s,
        wait_max=wait_max_s,
        wait_jitter=wait_min_s,
    ).with_name(step, (), {})


def _log_retry(details: RetryDetails) -> None:
    log.warning(
        "step failed",
        step=details.name,
        error=str(details.caused_by),
        failures=details.retry_num,
        retry_after_s=round(details.wait_for, 3),
    )


# Each retry is logged once, in our own words and without arguments.
set_on_retry_hooks([_log_retry])
