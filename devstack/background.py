"""Keep a stack running after the command that started it has returned, and stop it later."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from devstack.artifacts import FETCH_TIMEOUT_S
from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.directory import STACK, DirectoryLock, prepare_directory, unusable
from devstack.errors import StackError
from devstack.process import rotate
from devstack.settings import read_directory
from devstack.state import StackState, forget_state

LOG_NAME = "supervisor.log"
# The first start fetches Kafka; the rest is for stores and services on a slow machine.
START_TIMEOUT_S = FETCH_TIMEOUT_S + 180.0
# More than a supervisor with a few children takes that each use up their own stop timeout.
STOP_TIMEOUT_S = 90.0
_REPOSITORY_ROOT = Path(__file__).parents[1]
_DESCRIPTORS = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")


def start_background(*, services: str = "", env: Mapping[str, str] = os.environ) -> StackState:
    """Start a supervisor in the background and return when everything is ready.

    Args:
        services: "module:function" that returns `Services`; empty for none.
        env: its environment; `LocalSettings.from_env` says what is read there.

    Returns:
        What runs.

    Raises:
        StackError: something cannot be started; nothing is left running.
    """
    directory = read_directory(env).absolute()
    prepare_directory(directory)
    DirectoryLock(directory, claimed_by=STACK).require_free()
    log_path = directory / LOG_NAME
    report, report_to = os.pipe()
    try:
        start_bytes, pid = _spawn(services, env, log_path=log_path, report_to=report_to)
    except BaseException:
        os.close(report)
        raise
    finally:
        # Closed at our side, the pipe ends with the supervisor, whatever ends it.
        os.close(report_to)
    try:
        problems = _read_report(report, log_path=log_path)
        if problems is None:
            problems = [_last_line(log_path, start_bytes)]
        state = StackState.read(directory)
        if problems or state is None:
            raise StackError(*(problems or [f"the stack ended at once: see {log_path}"]))
    except BaseException:
        _end(pid)
        raise
    else:
        return state
    finally:
        os.close(report)


def write_report(descriptor: int, problems: Sequence[str] = ()) -> None:
    """Tell the command that waits in `start_background` how the start went.

    Args:
        descriptor: the end of its pipe; it is closed, so that one report is all there is.
        problems: why nothing runs, a line each; none means that everything is ready.
    """
    try:
        # The command may have been killed meanwhile; the stack goes on without it.
        with suppress(BrokenPipeError):
            os.write(descriptor, json.dumps(list(problems)).encode())
    finally:
        os.close(descriptor)


def _read_report(descriptor: int, *, log_path: Path) -> list[str] | None:
    """Wait for the supervisor's report; None if it ended without one."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    text = b""
    while select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        some = os.read(descriptor, 64 * 1024)
        if not some:
            problems: list[str] | None = json.loads(text) if text else None
            return problems
        text += some
    return [f"the stack was not ready within {START_TIMEOUT_S:.0f} s: see {log_path}"]


def _spawn(
    services: str, env: Mapping[str, str], *, log_path: Path, report_to: int
) -> tuple[int, int]:
    """Start the supervisor; return the start of its part of the log, and its process id.

    It inherits the log and the pipe, and no other descriptor of this process: a lock or a pipe of
    the caller (`flock FILE make up`) would be held for as long as the stack runs.
    """
    try:
        rotate(log_path)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(log_path, error) from error
    try:
        start_bytes = os.fstat(log).st_size
        os.set_inheritable(report_to, True)
        python_path = os.pathsep.join(filter(None, [str(_REPOSITORY_ROOT), env.get("PYTHONPATH")]))
        pid = os.posix_spawn(
            sys.executable,
            [
                *(sys.executable, "-m", "devstack"),
                *(f"--services={services}", f"--report-to={report_to}"),
            ],
            {**env, "PYTHONPATH": python_path},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited() - {report_to}),
            ],
            # Out of the terminal's session: closing the terminal does not end it.
            setsid=True,
            # A signal that the caller ignores or holds back (nohup, &) would stay so over exec.
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM),
        )
        return start_bytes, pid
    finally:
        os.close(log)


def _inherited() -> set[int]:
    """The descriptors of this process, but for the standard ones, that its children would have."""
    found = set()
    for entry in os.listdir(_DESCRIPTORS):
        try:
            if int(entry) > 2 and os.get_inheritable(int(entry)):
                found.add(int(entry))
        except OSError:
            # The one that listed the folder.
            continue
    return found


def running_state(directory: Path) -> StackState | None:
    """Look for a stack that runs.

    Args:
        directory: the stack's directory.

    Returns:
        What runs; None if nothing does, or it is still starting.

    Raises:
        StackError: the directory belongs to another user, or its state to another version.
    """
    holder_pid = DirectoryLock(directory, claimed_by=STACK).holder_pid()
    if holder_pid is None:
        return None
    state = StackState.read(directory)
    return state if state is not None and state.supervisor_pid == holder_pid else None


def stop_background(directory: Path) -> bool:
    """Stop a stack, also one that is still starting; return when it has ended.

    Args:
        directory: the stack's directory.

    Returns:
        False if none ran.

    Raises:
        StackError: the directory belongs to another user.
    """
    holder_pid = DirectoryLock(directory, claimed_by=STACK).holder_pid()
    try:
        if holder_pid is not None:
            _end(holder_pid)
        # Also what a supervisor that was killed has left behind.
        forget_state(directory)
    except OSError as error:
        raise unusable(directory, error) from error
    return holder_pid is not None


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


def _last_line(log_path: Path, start_bytes: int) -> str:
    with log_path.open("rb") as log:
        log.seek(start_bytes)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return (lines or [f"the stack ended without a word: see {log_path}"])[-1]
