"""One child process: how to start it, when it is ready, how to stop it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.errors import StackError
from devstack.spawn import spawn

LOG_SIZE_MAX_BYTES = 10 * 1024 * 1024
_TAIL_BYTES = 16 * 1024
_COMPLAINT = re.compile(r"FATAL|PANIC|ERROR|[Ee]rror|Exception|Can't|cannot")


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """What a child process is.

    Attributes:
        name: what people call it; unique in a stack.
        command: absolute path of the program, and its arguments.
        log_path: file that its output is appended to; kept to two files of 10 MiB.
        env: its whole environment.
        cwd: its working directory; the log's directory when None.
        ready: tells whether it answers, in well under a second; None: ready once started.
        address: where it answers, for people; empty when nowhere.
        operators: where it answers operators, for people; empty when nowhere.
        user: account to run as (only root may ask); None keeps this process's.
        stop_signal: what asks it to stop.
        stop_timeout_s: seconds from that to SIGKILL.
        start_timeout_s: seconds it has to become ready.
        restarts_max: how often within a minute it is started again after it ended by itself.
    """

    name: str
    command: Sequence[str]
    log_path: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    address: str = ""
    operators: str = ""
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    start_timeout_s: float = 30.0
    restarts_max: int = 0


class Process:
    """A started child; it ends with this process at the latest."""

    def __init__(self, spec: ProcessSpec) -> None:
        """Start the program; it is not ready yet.

        Args:
            spec: what to start.

        Raises:
            StackError: it could not be started.
        """
        self.spec = spec
        try:
            spec.log_path.parent.mkdir(parents=True, exist_ok=True)
            rotate(spec.log_path)
            self._log_start_bytes = spec.log_path.stat().st_size if spec.log_path.exists() else 0
            self._popen: subprocess.Popen[bytes] = spawn(
                spec.command,
                log_path=spec.log_path,
                env=spec.env,
                cwd=spec.cwd or spec.log_path.parent,
                user=spec.user,
            )
        except OSError as error:
            raise StackError(f"cannot start {spec.name}: {error}") from error

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait_ready(self) -> Iterator[None]:
        """Wait until the ready check passes.

        Raises:
            StackError: the process ended, or did not answer in time; names its log.
        """
        deadline = Deadline(self.spec.start_timeout_s)
        while True:
            if self.returncode is not None:
                raise StackError(self.exit_summary())
            if self.spec.ready is None or self.spec.ready():
                return
            if deadline.passed:
                raise StackError(
                    f"{self.spec.name} did not answer within {self.spec.start_timeout_s:.0f} s:"
                    f" {self.last_log_line()} (log: {self.spec.log_path})"
                )
            yield

    def wait_exit(self, *, timeout_s: float) -> Iterator[None]:
        """Wait until the process has ended by itself.

        Args:
            timeout_s: seconds it has.

        Raises:
            StackError: it still runs.
        """
        deadline = Deadline(timeout_s)
        while self.returncode is None:
            if deadline.passed:
                raise StackError(
                    f"{self.spec.name} did not end within {timeout_s:.0f} s:"
                    f" {self.last_log_line()} (log: {self.spec.log_path})"
                )
            yield

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; to a process that has ended, nothing happens.

        Args:
            signum: the signal, e.g. SIGSTOP to freeze it and SIGCONT to thaw it.
        """
        self._popen.send_signal(signum)

    def stop(self) -> None:
        """Ask it to stop, and after its stop timeout kill it; return when it has ended."""
        self.send(self.spec.stop_signal)
        # A frozen process would never see the request.
        self.send(signal.SIGCONT)
        deadline = Deadline(self.spec.stop_timeout_s)
        while self.returncode is None and not deadline.passed:
            time.sleep(POLL_INTERVAL_S)
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL and return when it has ended."""
        self.send(signal.SIGKILL)
        self._popen.wait()

    def last_log_line(self) -> str:
        """The last complaint in this run's log, or else its last line; never empty."""
        lines = [line.strip() for line in self.log_tail().splitlines() if line.strip()]
        complaints = [line for line in lines if _COMPLAINT.search(line)]
        return (complaints or lines or ["it logged nothing"])[-1][:400]

    def log_tail(self) -> str:
        """The end of what this run has logged, at most 16 KiB."""
        try:
            with self.spec.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(min(self._log_start_bytes, end), end - _TAIL_BYTES))
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def exit_summary(self) -> str:
        """Return one line about a process that has ended: how, its last complaint, its log."""
        code = self.returncode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        return f"{self.spec.name} {how}: {self.last_log_line()} (log: {self.spec.log_path})"


def rotate(log_path: Path) -> None:
    """Put a log of more than 10 MiB aside, in the place of the one put aside before."""
    if log_path.exists() and log_path.stat().st_size > LOG_SIZE_MAX_BYTES:
        log_path.replace(log_path.with_suffix(".1.log"))
