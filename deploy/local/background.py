"""Keep a stack running after the command that started it has returned, and stop it later."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from deploy.local.artifacts import FETCH_TIMEOUT_S
from deploy.local.deadline import POLL_INTERVAL_S, Deadline
from deploy.local.directory import STACK, DirectoryLock, prepare_directory
from deploy.local.errors import StackError
from deploy.local.settings import LocalSettings
from deploy.local.state import StackState, forget_state

LOG_NAME = "supervisor.log"
# The first start fetches Kafka; the rest is for stores and services on a slow machine.
START_TIMEOUT_S = FETCH_TIMEOUT_S + 180.0
# More than a supervisor with a few children takes that each use up their own stop timeout.
STOP_TIMEOUT_S = 90.0
_REPOSITORY_ROOT = Path(__file__).parents[2]


def start_background(*, services: str = "", env: Mapping[str, str] = os.environ) -> StackState:
    """Start a supervisor in the background and return when everything is ready.

    Args:
        services: "module:function" that gives the services, as for `Supervisor`; empty for none.
        env: its environment; `LocalSettings.from_env` says what is read there.

    Returns:
        What runs.

    Raises:
        StackError: something cannot be started; nothing is left running.
    """
    directory = LocalSettings.from_env(env).directory.absolute()
    prepare_directory(directory)
    log_path = directory / LOG_NAME
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    python_path = os.pathsep.join(filter(None, [str(_REPOSITORY_ROOT), env.get("PYTHONPATH")]))
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "deploy.local", f"--services={services}"],
        {**env, "PYTHONPATH": python_path},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        # Out of the terminal's session: closing the terminal does not end it.
        setsid=True,
    )
    deadline = Deadline(START_TIMEOUT_S)
    try:
        while True:
            state = StackState.read(directory)
            if state is not None and state.supervisor_pid == pid:
                return state
            if _has_ended(pid):
                raise StackError(_last_line(log_path))
            if deadline.passed:
                raise StackError(
                    f"the stack was not ready within {START_TIMEOUT_S:.0f} s: see {log_path}"
                )
            time.sleep(POLL_INTERVAL_S)
    except BaseException:
        _end(pid)
        raise


def running_state(directory: Path) -> StackState | None:
    """Look for a stack that runs.

    Args:
        directory: the stack's directory.

    Returns:
        What runs; None when nothing does, or it is still starting.
    """
    holder_pid = DirectoryLock(directory, claimed_by=STACK).holder_pid()
    state = StackState.read(directory)
    if state is None or state.supervisor_pid != holder_pid:
        return None
    return state


def stop_background(directory: Path) -> bool:
    """Stop a stack, also one that is still starting; return when it has ended.

    Args:
        directory: the stack's directory.

    Returns:
        False when none ran.
    """
    holder_pid = DirectoryLock(directory, claimed_by=STACK).holder_pid()
    if holder_pid is None:
        # Left behind by a supervisor that was killed.
        forget_state(directory)
        return False
    _end(holder_pid)
    forget_state(directory)
    return True


def _end(pid: int) -> None:
    deadline = Deadline(STOP_TIMEOUT_S)
    try:
        # SIGTERM before its handler is there ends it too: then it has started nothing yet.
        os.kill(pid, signal.SIGTERM)
        while not _has_ended(pid):
            if deadline.passed:
                # Its children follow by the parent-death signal.
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(POLL_INTERVAL_S)
    except ProcessLookupError:
        return


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # Not a child of this process, or one whose end was seen before.
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines()
    last = (lines or ["it said nothing"])[-1]
    return last.removeprefix("error: ")
