"""The process that keeps a stack running: the stores first, then the services."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import FrameType

from deploy.local.deadline import POLL_INTERVAL_S, drive
from deploy.local.errors import StackError
from deploy.local.process import Process, ProcessSpec
from deploy.local.settings import Stores
from deploy.local.stack import LocalStack
from deploy.local.state import RunningProcess, StackState, forget_state

RESTART_PERIOD_S = 60.0

Services = Callable[[Stores], Sequence[ProcessSpec]]


def no_services(_: Stores) -> Sequence[ProcessSpec]:
    """A stack of stores alone."""
    return ()


class Supervisor:
    """Starts stores, then services, watches them, stops them in reverse order."""

    def __init__(
        self,
        stack: LocalStack,
        *,
        services: Services = no_services,
    ) -> None:
        """Describe what is to run; nothing is started.

        Args:
            stack: the stores.
            services: called once the stores answer; says what else to start. They start side
                by side, and wait for each other themselves.
        """
        self._stack = stack
        self._services = services
        self._processes: list[Process] = []
        # When each service was started anew, by name; monotonic seconds.
        self._restarts: dict[str, list[float]] = {}
        self._state_is_ours = False
        self._asked_to_stop = False

    def start(self) -> StackState:
        """Start everything, and write the state file when all are ready.

        Returns:
            What runs.

        Raises:
            StackError: something cannot be started; nothing is left running.
        """
        try:
            stores = self._stack.start()
            for spec in self._services(stores):
                self._processes.append(Process(spec))
            drive([process.wait_ready() for process in self._processes])
            state = self._describe(stores)
            state.write(self._stack.directory)
            self._state_is_ours = True
        except BaseException:
            self.stop()
            raise
        return state

    def stop(self) -> None:
        """Stop everything, last first, and remove the state file."""
        while self._processes:
            self._processes.pop().stop()
        if self._state_is_ours:
            forget_state(self._stack.directory)
            self._state_is_ours = False
        self._stack.stop()

    def watch(self) -> None:
        """Return when asked to stop by SIGTERM or SIGINT; start services anew that died.

        Raises:
            StackError: a store has died, or a service too often; names it and its log.
        """
        while not self._asked_to_stop:
            self._stack.check()
            for index, process in enumerate(self._processes):
                if process.returncode is not None:
                    self._revive(index)
            time.sleep(POLL_INTERVAL_S)

    def _revive(self, index: int) -> None:
        dead = self._processes[index]
        now_s = time.monotonic()
        recent = [
            at_s
            for at_s in self._restarts.get(dead.spec.name, [])
            if now_s - at_s < RESTART_PERIOD_S
        ]
        if len(recent) >= dead.spec.restarts_max:
            raise StackError(dead.obituary())
        self._restarts[dead.spec.name] = [*recent, now_s]
        self._processes[index] = Process(dead.spec)
        self._describe(self._stack.stores).write(self._stack.directory)

    def run(self, *, on_ready: Callable[[StackState], None] = lambda _: None) -> None:
        """Start, watch, stop. Call it from the main thread: it takes SIGTERM and SIGINT.

        Args:
            on_ready: called once everything is ready.

        Raises:
            StackError: something cannot be started, or has died; all is stopped by then.
        """
        previous = {
            signum: signal.signal(signum, self._on_signal)
            for signum in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            on_ready(self.start())
            self.watch()
        except _StopRequestedError:
            pass
        finally:
            # A second Ctrl-C must not cut the stopping short: that is bounded by itself.
            self._asked_to_stop = True
            self.stop()
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if not self._asked_to_stop:
            self._asked_to_stop = True
            raise _StopRequestedError

    def _describe(self, stores: Stores) -> StackState:
        servers = [
            RunningProcess(
                name=server.name,
                pid=server.pid,
                address=f"127.0.0.1:{server.port}",
                log=str(server.log_path),
            )
            for server in self._stack.servers
        ]
        services = [
            RunningProcess(
                name=process.spec.name,
                pid=process.pid,
                address=process.spec.address,
                log=str(process.spec.log_path),
            )
            for process in self._processes
        ]
        return StackState(
            supervisor_pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            stores=stores,
            components=self._stack.components(),
            processes=(*servers, *services),
        )


class _StopRequestedError(BaseException):
    """Leaves whatever is being waited for; never passes `Supervisor.run`."""
