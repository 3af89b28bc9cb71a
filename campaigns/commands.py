"""Commands of the campaigns, with bounds in time."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

COMMAND_TIMEOUT_S = 60.0
POLL_S = 0.5


class CommandFailed(Exception):
    """A command of the campaign failed; the message has what it said."""


def run(
    *command: str | Path,
    stdin: str | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
    env: Mapping[str, str] | None = None,
) -> str:
    """Return what a command printed; raise CommandFailed with all that it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{' '.join(words)}: {error}") from error
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(words)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float) -> None:
    """Return once `holds` is true; raise CommandFailed if it is not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise CommandFailed(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)
