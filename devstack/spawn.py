"""Start children from one thread that lives as long as the process.

The kernel's parent-death signal is sent when the *thread* that forked ends, not the process.
Started from a worker of a thread pool, a server would die with that worker.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

_WRAPPER = Path(__file__).with_name("exec_child.py")


class _Spawner:
    """The thread, and the queue of what it is asked to start."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[
            tuple[Sequence[str], Path, Mapping[str, str], Path, Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="spawner", daemon=True)
        self.thread.start()

    def submit(
        self, command: Sequence[str], *, log_path: Path, env: Mapping[str, str], cwd: Path
    ) -> Future[subprocess.Popen[bytes]]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._requests.put((command, log_path, env, cwd, future))
        return future

    def _run(self) -> None:
        while True:
            command, log_path, env, cwd, future = self._requests.get()
            try:
                with log_path.open("ab") as log:
                    future.set_result(
                        subprocess.Popen(
                            command,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            env=dict(env),
                            cwd=cwd,
                            # Ctrl-C in a terminal goes to its whole process group: children get
                            # their own, so that they are stopped in order.
                            start_new_session=True,
                        )
                    )
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                future.set_exception(error)


_guard = threading.Lock()
_spawner: _Spawner | None = None


def spawn(
    command: Sequence[str],
    *,
    log_path: Path,
    env: Mapping[str, str],
    cwd: Path,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that ends when this process ends, however it ends (on Linux).

    Args:
        command: absolute path of the program, and its arguments.
        log_path: file that its output is appended to.
        env: its whole environment.
        cwd: its working directory.
        user: account to run as; None keeps this process's. Only root may ask.

    Returns:
        The child; its pid is the program's own.

    Raises:
        OSError: the interpreter could not be started or the log not be opened.
    """
    global _spawner  # noqa: PLW0603 - one thread a process is the point of this module
    with _guard:
        # After a fork the thread is gone, and `is_alive` says so.
        if _spawner is None or not _spawner.thread.is_alive():
            _spawner = _Spawner()
        wrapper = [sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), user or "-", "--"]
        future = _spawner.submit([*wrapper, *command], log_path=log_path, env=env, cwd=cwd)
    return future.result()
