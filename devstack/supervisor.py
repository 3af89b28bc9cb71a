"""The process that keeps a stack running: the stores first, then the services."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

import structlog

from devstack.certificates import MESH_FOLDER
from devstack.deadline import POLL_INTERVAL_S, drive
from devstack.directory import STACK, DirectoryLock, prepare_directory, unusable
from devstack.errors import StackError
from devstack.ports import settle_ports
from devstack.process import Process, ProcessSpec
from devstack.settings import (
    LocalSettings,
    Stores,
    WantedPort,
    read_directory,
    read_secure,
    store_ports,
)
from devstack.stack import LocalStack
from devstack.state import RunningProcess, StackState, forget_state

RESTART_PERIOD_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Services:
    """What runs besides the stores.

    Attributes:
        specs: called once the stores answer, with their addresses and the ports by variable;
            returns what to start. The services start side by side, and wait for each other
            themselves.
        ports: what they listen on; settled before anything starts.
    """

    specs: Callable[[Stores, Mapping[str, int]], Sequence[ProcessSpec]]
    ports: Sequence[WantedPort] = ()


def no_services() -> Services:
    """Return the services of a stack of stores alone."""
    return Services(specs=lambda _stores, _ports: ())


class Supervisor:
    """Starts stores, then services, watches them, stops them in reverse order."""

    def __init__(self, services: Services, *, env: Mapping[str, str] = os.environ) -> None:
        """Describe what is to run; nothing is started.

        Args:
            services: what runs besides the stores.
            env: `LocalSettings.from_env` says what is read there.
        """
        self._services = services
        self._env = env
        self._directory = read_directory(env).absolute()
        self._stack: LocalStack | None = None
        self._processes: list[Process] = []
        self._notes: tuple[str, ...] = ()
        # Asked for once: a store that is frozen later must not hinder the restart of a service.
        self._components: dict[str, str] = {}
        # When each service was started again, by name; monotonic seconds.
        self._restarts: dict[str, list[float]] = {}
        self._state_is_ours = False
        self._asked_to_stop = False

    def start(self) -> StackState:
        """Start everything, and write the state file once all are ready.

        Returns:
            What runs.

        Raises:
            StackError: something cannot be started; nothing is left running. Its lines name every
                port that is not to be had, before anything has been started.
        """
        read_secure(self._env)
        prepare_directory(self._directory)
        # First: the ports of a stack that runs here already are taken by that one.
        DirectoryLock(self._directory, claimed_by=STACK).require_free()
        wanted = (*store_ports(self._env), *self._services.ports)
        settled = settle_ports(wanted, self._env)
        self._notes = tuple(settled.notes)
        stack = self._stack = LocalStack(LocalSettings.from_env(self._env))
        try:
            stores = stack.start()
            self._components = stack.components()
            for spec in self._services.specs(stores, settled.by_variable):
                self._processes.append(Process(spec))
            drive([process.wait_ready() for process in self._processes])
            state = self._describe(stack)
            state.write(self._directory)
            self._state_is_ours = True
        except OSError as error:
            self.stop()
            raise unusable(self._directory, error) from error
        except BaseException:
            self.stop()
            raise
        return state

    def stop(self) -> None:
        """Stop everything, last first, and remove the state file."""
        while self._processes:
            self._processes.pop().stop()
        if self._state_is_ours:
            forget_state(self._directory)
            self._state_is_ours = False
        if self._stack is not None:
            self._stack.stop()

    def watch(self) -> None:
        """Start services again that died; return when asked to stop by SIGTERM or SIGINT.

        Raises:
            StackError: a store has died, or a service too often; names it and its log.
        """
        while not self._asked_to_stop and self._stack is not None:
            self._stack.check()
            for index, process in enumerate(self._processes):
                if process.returncode is not None:
                    self._restart(index, self._stack)
            time.sleep(POLL_INTERVAL_S)

    def _restart(self, index: int, stack: LocalStack) -> None:
        dead = self._processes[index]
        name = dead.spec.name
        log.warning("process died", process=name, pid=dead.pid, why=dead.exit_summary())
        now_s = time.monotonic()
        recent = [at_s for at_s in self._restarts.get(name, []) if now_s - at_s < RESTART_PERIOD_S]
        if len(recent) >= dead.spec.restarts_max:
            raise StackError(dead.exit_summary())
        self._restarts[name] = [*recent, now_s]
        self._processes[index] = Process(dead.spec)
        log.info(
            "process restarted",
            process=name,
            pid=self._processes[index].pid,
            restarts_last_minute=len(recent) + 1,
        )
        self._describe(stack).write(self._directory)

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
        except OSError as error:
            raise unusable(self._directory, error) from error
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

    def _describe(self, stack: LocalStack) -> StackState:
        servers = [
            RunningProcess(
                name=server.name,
                pid=server.pid,
                address=f"127.0.0.1:{server.port}",
                log=str(server.log_path),
            )
            for server in stack.servers
        ]
        services = [
            RunningProcess(
                name=process.spec.name,
                pid=process.pid,
                address=process.spec.address,
                log=str(process.spec.log_path),
                # A further replica has the settings of its service.
                metrics=process.spec.env.get(
                    f"SECKILL_{process.spec.name.partition('-')[0].upper()}_METRICS_LISTEN", ""
                ),
                operators=process.spec.operators,
            )
            for process in self._processes
        ]
        return StackState(
            supervisor_pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            stores=stack.stores,
            components=self._components,
            processes=(*servers, *services),
            notes=self._notes,
            certificates=str(self._directory / MESH_FOLDER) if read_secure(self._env) else "",
        )


class _StopRequestedError(BaseException):
    """Leaves whatever is being waited for; never passes `Supervisor.run`."""
