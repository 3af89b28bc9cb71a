"""Ports: picked, taken, wanted twice, and kept from outgoing connections."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import LocalSettings, PostgresServer, StackError, ValkeyServer, start_background
from devstack.edge import edge_ports
from devstack.mesh import service_ports
from devstack.ports import LOOPBACK, pick_free_port, settle_ports
from devstack.settings import WantedPort
from tests.kits.devstack import ROOT


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A loopback port that another server listens on."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        yield listener.getsockname()[1]


@pytest.fixture
def outgoing_port(taken_port: int) -> Iterator[int]:
    """The source port of an open connection."""
    with socket.create_connection((LOOPBACK, taken_port)) as connection:
        yield connection.getsockname()[1]


@pytest.fixture
def unused_port() -> int:
    """A port of the ephemeral range that was free a moment ago."""
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        port: int = unused.getsockname()[1]
    return port


def wanted(variable: str, default: int) -> WantedPort:
    """A port that the rollback service wants."""
    return WantedPort(variable=variable, default=default, wanted_by="rollback")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (PostgresServer, "SECKILL_LOCAL_POSTGRES_PORT"),
        (ValkeyServer, "SECKILL_LOCAL_REDIS_PORT"),
    ],
)
def test_taken_port_is_told_in_one_line(
    tmp_path: Path,
    taken_port: int,
    kind: type[PostgresServer] | type[ValkeyServer],
    variable: str,
) -> None:
    """The message names the port, who wants it, and the variable that chooses another."""
    server = kind(tmp_path / "store", port=taken_port)
    with pytest.raises(StackError) as caught:
        server.start()
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (str(taken_port), kind.name, variable))
    assert not server.running


def test_picked_port_is_outside_the_ephemeral_range(tmp_path: Path) -> None:
    """A client that redials a dead store can then never be connected to itself."""
    with ValkeyServer(tmp_path / "valkey") as server:
        assert 20_000 <= server.port < 30_000


def test_a_picked_port_is_not_picked_again() -> None:
    """Neither by this process again nor by another one, before a server listens on it."""
    mine = [pick_free_port() for _ in range(1_000)]
    program = (
        "from devstack.ports import pick_free_port\n"
        "print(*(pick_free_port() for _ in range(1_000)))\n"
    )
    others = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT).split()
    assert len({*mine, *map(int, others)}) == 2_000


def test_bad_port_setting_names_variable_and_value() -> None:
    """A port that is none is refused when the settings are read."""
    with pytest.raises(StackError, match="SECKILL_LOCAL_KAFKA_PORT=70000"):
        LocalSettings.from_env({"SECKILL_LOCAL_KAFKA_PORT": "70000"})


def test_all_bad_ports_are_told_at_once_before_anything_starts(
    tmp_path: Path, taken_port: int, unused_port: int
) -> None:
    """A line for each: two that are none, a store's that is taken, one that two services want."""
    env = {
        **{port.variable: "0" for port in (*service_ports(), *edge_ports())},
        "SECKILL_LOCAL_DIR": str(tmp_path / "stack"),
        "SECKILL_LOCAL_GATEWAY_PORT": "abc",
        "SECKILL_LOCAL_ORDER_METRICS_PORT": "70000",
        "SECKILL_LOCAL_REDIS_PORT": str(taken_port),
        "SECKILL_LOCAL_INVENTORY_PORT": str(unused_port),
        "SECKILL_LOCAL_ROLLBACK_PORT": str(unused_port),
    }
    with pytest.raises(StackError) as caught:
        start_background(services="devstack.mesh:mesh", env=env)
    problems = caught.value.problems
    assert len(problems) == 4
    command = subprocess.run(
        [sys.executable, "-m", "seckill_cli", "up"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 1
    assert command.stderr.splitlines() == [f"error: {problem}" for problem in problems]
    for expected in (
        ("SECKILL_LOCAL_GATEWAY_PORT=abc", "0 to 65535"),
        ("SECKILL_LOCAL_ORDER_METRICS_PORT=70000",),
        (str(taken_port), "valkey", "SECKILL_LOCAL_REDIS_PORT"),
        (str(unused_port), "SECKILL_LOCAL_INVENTORY_PORT", "SECKILL_LOCAL_ROLLBACK_PORT"),
    ):
        assert any(all(part in problem for part in expected) for problem in problems)
    assert sorted(path.name for path in (tmp_path / "stack").iterdir()) == ["supervisor.log"]


def test_default_port_of_an_outgoing_connection_is_replaced(outgoing_port: int) -> None:
    """A port that the kernel gave to some connection does not hinder a start; the note says so."""
    settled = settle_ports([wanted("PORT", outgoing_port)], {})
    assert 20_000 <= settled.by_variable["PORT"] < 30_000
    (note,) = settled.notes
    assert f"port {outgoing_port} " in note
    assert f"rollback has {settled.by_variable['PORT']}" in note


def test_default_port_of_a_server_is_not_replaced(taken_port: int) -> None:
    """Calls to the documented port would reach that server, so its variable must say what to do."""
    with pytest.raises(StackError, match=f"port {taken_port} .*set PORT to a free port"):
        settle_ports([wanted("PORT", taken_port)], {})


def test_chosen_port_of_an_outgoing_connection_is_refused(outgoing_port: int) -> None:
    """A port that was asked for is never replaced silently."""
    with pytest.raises(StackError, match=f"port {outgoing_port} .*wanted by rollback"):
        settle_ports([wanted("PORT", 0)], {"PORT": str(outgoing_port)})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets two sockets share a port so")
def test_settled_port_is_kept_for_its_server(unused_port: int) -> None:
    """No connection gets it as its source port before it is used, nor between two servers."""
    settle_ports([wanted("PORT", unused_port)], {})
    for _ in range(2):
        with socket.socket() as connection, pytest.raises(OSError, match="in use"):
            connection.bind((LOOPBACK, unused_port))
        with socket.create_server((LOOPBACK, unused_port)):
            pass
