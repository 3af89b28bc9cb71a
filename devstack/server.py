"""What the single stores share: a directory, a port that stays, start, stop, kill, restart."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self

import psutil

from devstack.deadline import Deadline, drive
from devstack.directory import DirectoryLock, prepare_directory
from devstack.errors import StackError
from devstack.ports import pick_free_port, wait_until_free
from devstack.process import Process, ProcessSpec

# Another program may take a picked port before the server listens on it.
STARTS_MAX = 5
LEFTOVER_TIMEOUT_S = 5.0
# What a server says when its port, or memory of its killed forerunner, is still in use.
_STILL_IN_USE = re.compile(r"[Aa]ddress already in use|still in use|could not bind")


def plain_environment() -> dict[str, str]:
    """The environment of a store: nothing of the user's, which might configure it (PG*, JAVA_*).

    Returns:
        PATH, HOME, a temporary directory, UTF-8 and UTC.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(Path.home()),
        "TMPDIR": tempfile.gettempdir(),
        "LC_ALL": "C",
        "TZ": "UTC",
    }


class Server:
    """One store on loopback. Data and port stay over `restart`; data also over `stop`."""

    name: ClassVar[str]
    port_variable: ClassVar[str]

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        """Describe the server; nothing is started.

        Args:
            directory: its own directory, for data and logs; created when it starts.
            port: where it listens; 0 picks a free port at the first start and keeps it.
        """
        self.directory = directory.absolute()
        self.port = port
        self.log_path = self.directory / f"{self.name}.log"
        self._port_is_picked = port == 0
        self._lock = DirectoryLock(self.directory, claimed_by=self.name)
        self._process: Process | None = None

    def start(self) -> str:
        """Start it and wait until it answers; when it runs already, nothing happens.

        Returns:
            Its address: what `url` says.

        Raises:
            StackError: it cannot be started; nothing is left running.
        """
        try:
            drive([self.bring_up()])
        except BaseException:
            self.stop()
            raise
        return self.url

    def bring_up(self) -> Iterator[None]:
        """Start it as a generator that yields while it waits, to start several at once.

        After a failure, `stop` cleans up.

        Raises:
            StackError: it cannot be started.
        """
        if self.running:
            return
        try:
            yield from self._bring_up()
        except OSError as error:
            raise StackError(
                f"{self.name} cannot use {error.filename or self.directory} ({error.strerror}):"
                f" give {self.directory} to this user (chown -R) and make room on its disk,"
                " or choose another place with SECKILL_LOCAL_DIR"
            ) from error

    def stop(self) -> None:
        """Stop it gently, after a bounded time by force; without a process nothing happens."""
        if self._process is not None:
            self._process.stop()
        self._forget()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; it can be started again on the same port."""
        if self._process is not None:
            self._process.kill()
        self._forget()

    def restart(self) -> str:
        """Stop it and start it again on the same port with the same data.

        Returns:
            Its address.

        Raises:
            StackError: it cannot be started again.
        """
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze its main process with SIGSTOP: connections open, nothing answers."""
        self._running_process().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw it with SIGCONT."""
        self._running_process().send(signal.SIGCONT)

    @property
    def url(self) -> str:
        """The address that clients take, once it has been started."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The id of its main process.

        Raises:
            StackError: it has none.
        """
        return self._running_process().pid

    def check(self) -> None:
        """Check that the server has not died by itself.

        Raises:
            StackError: it ended without being stopped; names its log.
        """
        if self._process is not None and self._process.returncode is not None:
            raise StackError(self._process.exit_summary())

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _bring_up(self) -> Iterator[None]:
        prepare_directory(self.directory)
        self._lock.acquire()
        yield from self._end_leftover()
        yield from self._prepare()
        for attempt in range(1, STARTS_MAX + 1):
            yield from self._claim_port()
            self._process = process = Process(self._spec())
            self._remember(process.pid)
            try:
                yield from process.wait_ready()
                break
            except StackError:
                tail = process.log_tail()
                if attempt == STARTS_MAX or not _STILL_IN_USE.search(tail):
                    raise
                process.kill()
                if self._port_is_picked:
                    self.port = 0
        yield from self._complete()
        # From now on clients know the port: another start takes it again, or says it is taken.
        self._port_is_picked = False

    def _prepare(self) -> Iterator[None]:
        """Make what must exist before the first start."""
        yield from ()

    def _spec(self) -> ProcessSpec:
        """The process to start, on `self.port`."""
        raise NotImplementedError

    def _complete(self) -> Iterator[None]:
        """Finish what needs a server that answers."""
        yield from ()

    def _run(
        self, name: str, command: list[str], *, timeout_s: float, env: Mapping[str, str]
    ) -> Iterator[None]:
        """Run a program of the server's to its end; its exit code must be 0."""
        process = Process(self._step_spec(name, command, env))
        try:
            yield from process.wait_exit(timeout_s=timeout_s)
            if process.returncode != 0:
                raise StackError(process.exit_summary())
        finally:
            process.kill()

    def _step_spec(self, name: str, command: list[str], env: Mapping[str, str]) -> ProcessSpec:
        return ProcessSpec(
            name=name, command=command, log_path=self.directory / f"{name}.log", env=env
        )

    def _running_process(self) -> Process:
        if self._process is None:
            raise StackError(f"{self.name} is not running: start it first")
        return self._process

    def _claim_port(self) -> Iterator[None]:
        if self.port == 0:
            self.port = pick_free_port()
        else:
            yield from wait_until_free(self.port, wanted_by=self.name, variable=self.port_variable)

    @property
    def _pid_path(self) -> Path:
        return self.directory / f"{self.name}.pid.json"

    def _remember(self, pid: int) -> None:
        try:
            created_at_s = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        self._pid_path.write_text(json.dumps({"pid": pid, "created_at_s": created_at_s}))

    def _forget(self) -> None:
        self._process = None
        # Without the claim the record is another launcher's.
        if self._lock.held:
            self._pid_path.unlink(missing_ok=True)
            self._lock.release()

    def _end_leftover(self) -> Iterator[None]:
        """End a server that outlived its launcher, on a system without a parent-death signal.

        We hold the directory's lock, so what still runs on this data has lost its launcher.
        """
        try:
            record = json.loads(self._pid_path.read_text())
            leftover = psutil.Process(record["pid"])
            # A pid is used again in time; together with its start it names one process.
            if abs(leftover.create_time() - record["created_at_s"]) > 0.1:
                return
            leftover.kill()
        except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.Error):
            return
        deadline = Deadline(LEFTOVER_TIMEOUT_S)
        while leftover.is_running() and leftover.status() != psutil.STATUS_ZOMBIE:
            if deadline.passed:
                raise StackError(
                    f"an earlier {self.name} (process {leftover.pid}) does not end:"
                    f" end it with kill -9 {leftover.pid}"
                )
            yield
