"""The supervisor of a stack, in the foreground and in the background."""

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack import StackError, Stores, running_state, start_background, stop_background
from tests.kits.devstack import (
    ROOT,
    WAIT_TIMEOUT_S,
    environment_of_given_stores,
    is_running,
    write_services,
)


def test_supervisor_stops_everything_on_ctrl_c(tmp_path: Path) -> None:
    """SIGINT to a supervisor that runs ends the stores and takes the state file away."""
    env = {**os.environ, "SECKILL_LOCAL_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "devstack"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline().startswith("postgres: ")
        state = running_state(tmp_path)
        assert state is not None
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(WAIT_TIMEOUT_S) == 0
    assert not any(is_running(process.pid) for process in state.processes)
    assert not (tmp_path / "stack.json").exists()


def test_background_stack_runs_services_until_stopped(tmp_path: Path) -> None:
    """A background stack has its services after its stores, and refuses a second in its place."""
    code = "import pathlib,signal; pathlib.Path('up').touch(); signal.pause()"
    services = write_services(
        tmp_path,
        f"ProcessSpec(name='gateway', command=[sys.executable, '-c', {code!r}], cwd=HERE,"
        " log_path=HERE / 'gateway.log', ready=(HERE / 'up').exists,"
        " env={'ADDRESS': stores.redis_url}, address='127.0.0.1:50051')",
    )
    directory = tmp_path / "stack"
    env = {**os.environ, "SECKILL_LOCAL_DIR": str(directory), "PYTHONPATH": str(tmp_path)}
    state = start_background(services=services, env=env)
    try:
        names = [process.name for process in state.processes]
        assert names == ["postgres", "valkey", "kafka", "gateway"]
        assert all(is_running(process.pid) for process in state.processes)
        assert running_state(directory) == state
        assert (directory / "stack.json").stat().st_mode & 0o077 == 0
        with pytest.raises(StackError, match=f"already runs .*{state.supervisor_pid}"):
            start_background(env=env)
        assert running_state(directory) == state
    finally:
        assert stop_background(directory)
    assert not any(is_running(process.pid) for process in state.processes)
    assert not stop_background(directory)


def test_dead_service_ends_the_supervisor_with_its_last_words(
    tmp_path: Path, stores: Stores
) -> None:
    """A service that fails at start takes the stack down and is quoted with its log."""
    code = "raise ValueError('no such topic')"
    services = write_services(
        tmp_path,
        f"ProcessSpec(name='orders', command=[sys.executable, '-c', {code!r}],"
        " ready=lambda: False, log_path=HERE / 'orders.log')",
    )
    env = environment_of_given_stores(stores, tmp_path / "stack", modules=tmp_path)
    with pytest.raises(StackError, match=r"orders ended .*no such topic.*orders\.log"):
        start_background(services=services, env=env)
    assert not stop_background(tmp_path / "stack")


def test_background_stack_inherits_no_descriptor(tmp_path: Path, stores: Stores) -> None:
    """A lock of the calling command (`flock FILE make up`) ends with that command."""
    path = tmp_path / "caller.lock"
    directory = tmp_path / "stack"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        start_background(env=environment_of_given_stores(stores, directory))
    try:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        assert stop_background(directory)


def test_killed_service_is_logged_and_started_again(tmp_path: Path, stores: Stores) -> None:
    """The supervisor's log has the death, its reason, the last words and the new process."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    code = (
        "import os,signal; print('last words');"
        f" open({str(pids)!r}, 'w').write(str(os.getpid())); signal.pause()"
    )
    services = write_services(
        tmp_path,
        f"ProcessSpec(name='gateway', command=[sys.executable, '-uc', {code!r}],"
        " log_path=HERE / 'gateway.log', restarts_max=1)",
    )
    directory = tmp_path / "stack"
    env = environment_of_given_stores(stores, directory, modules=tmp_path)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_background, services=services, env=env)
        first = int(pids.read_text())
        started.result()
        try:
            os.kill(first, signal.SIGKILL)
            second = int(pids.read_text())
        finally:
            assert stop_background(directory)
    log = (directory / "supervisor.log").read_text()
    (death,) = [line for line in log.splitlines() if "process died" in line]
    assert all(part in death for part in ("killed by SIGKILL", "last words", f"pid={first}"))
    (restart,) = [line for line in log.splitlines() if "process restarted" in line]
    assert f"pid={second}" in restart


def test_of_two_starts_at_once_one_goes_on(tmp_path: Path, stores: Stores) -> None:
    """Others, `seckill demo` too, are refused while it is still starting, and leave it alone."""
    gate, directory = tmp_path / "gate", tmp_path / "stack"
    os.mkfifo(gate)
    code = f"import signal; open({str(gate)!r}).read(); print('up'); signal.pause()"
    services = write_services(
        tmp_path,
        f"ProcessSpec(name='gateway', command=[sys.executable, '-uc', {code!r}],"
        " log_path=HERE / 'gateway.log',"
        " ready=lambda: 'up' in (HERE / 'gateway.log').read_text())",
    )
    env = environment_of_given_stores(stores, directory, modules=tmp_path)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_background, services=services, env=env)
        # Opens once the service has opened the other end: the first stack is starting.
        with gate.open("w"):
            with pytest.raises(StackError, match="already runs"):
                start_background(services=services, env=env)
            demo = subprocess.run(
                [sys.executable, "-m", "seckill_cli", "demo", "--buyers", "10", "--stock", "1"],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                timeout=WAIT_TIMEOUT_S,
                check=False,
            )
            assert demo.returncode == 1
            assert "already runs" in demo.stderr
            assert not started.done()
        state = started.result()
    try:
        assert running_state(directory) == state
    finally:
        assert stop_background(directory)


def test_stop_during_the_start_is_told(tmp_path: Path, stores: Stores) -> None:
    """`seckill down` while `seckill up` waits: the latter says so, and nothing is left."""
    gate, directory = tmp_path / "gate", tmp_path / "stack"
    os.mkfifo(gate)
    code = f"import signal; open({str(gate)!r}, 'w').close(); signal.pause()"
    services = write_services(
        tmp_path,
        f"ProcessSpec(name='gateway', command=[sys.executable, '-c', {code!r}],"
        " log_path=HERE / 'gateway.log', ready=lambda: False)",
    )
    env = environment_of_given_stores(stores, directory, modules=tmp_path)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_background, services=services, env=env)
        gate.read_text()
        assert stop_background(directory)
        with pytest.raises(StackError, match="stopped before it was ready"):
            started.result()
