"""Loopback ports: pick free ones, and settle the wanted ones before anything starts."""

import errno
import fcntl
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.errors import StackError
from devstack.settings import WantedPort, read_ports

LOOPBACK = "127.0.0.1"
# Below every common ephemeral range (Linux from 32768, macOS from 49152): a client that keeps
# dialling a killed store from inside that range can be given the store's own port as its source
# port and so connect to itself, and the store then cannot come back on it.
FIRST_PORT, LAST_PORT = 20_000, 29_999
PICKS_MAX = 200
# A process that was just killed gives its port back within milliseconds.
RELEASE_TIMEOUT_S = 1.5
CONNECT_TIMEOUT_S = 0.5


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a loopback port now.

    Args:
        port: 1 to 65535.

    Raises:
        PermissionError: the port is privileged.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
                return False
            raise
    return True


# Given out by this process, which its own record locks do not keep apart.
_picked: set[int] = set()


def pick_free_port() -> int:
    """Pick a free loopback port outside the ephemeral range, for good.

    Between the pick and the server's bind, no other caller gets the same port: neither in this
    process nor, while this process lives, in another one of this user.

    Returns:
        A port that nothing listened on a moment ago.

    Raises:
        StackError: none was found in a bounded number of picks.
    """
    source = random.SystemRandom()
    for _ in range(PICKS_MAX):
        port = source.randint(FIRST_PORT, LAST_PORT)
        if port not in _picked and _claim(port) and is_free(port):
            _picked.add(port)
            return port
    raise StackError(
        f"no free port between {FIRST_PORT} and {LAST_PORT} on {LOOPBACK}: stop what holds them"
    )


def _claim(port: int) -> bool:
    """Lock this port's byte of a file that all of this user's processes share."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


def _give_back(port: int) -> None:
    fcntl.lockf(_claims(), fcntl.LOCK_UN, 1, port)


@cache
def _claims() -> int:
    # The locks end with the process, so nothing has to be tidied up.
    path = Path(tempfile.gettempdir()) / f"seckill-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def wait_until_free(port: int, *, wanted_by: str, variable: str) -> Iterator[None]:
    """Wait briefly until a wanted port is free.

    Args:
        port: the port.
        wanted_by: which process will listen on it, for the message.
        variable: the environment variable that chooses another one, for the message.

    Raises:
        StackError: the port is taken or privileged.
    """
    deadline = Deadline(RELEASE_TIMEOUT_S)
    try:
        while not is_free(port):
            if deadline.passed:
                raise StackError(_taken(port, wanted_by=wanted_by, variable=variable))
            yield
    except PermissionError as error:
        raise StackError(_privileged(port, wanted_by=wanted_by, variable=variable)) from error


def _taken(port: int, *, wanted_by: str, variable: str) -> str:
    return (
        f"port {port} on {LOOPBACK}, wanted by {wanted_by}, is taken by another program:"
        f" set {variable} to a free port, or to 0 to have one picked"
    )


def _privileged(port: int, *, wanted_by: str, variable: str) -> str:
    return (
        f"port {port} on {LOOPBACK}, wanted by {wanted_by}, needs privileges:"
        f" set {variable} to a port above 1023, or to 0 to have one picked"
    )


@dataclass
class SettledPorts:
    """Ports that the processes of the stack will listen on.

    Attributes:
        by_variable: the ports.
        notes: a line for each one that differs from its default though no variable says so.
    """

    by_variable: dict[str, int]
    notes: list[str] = field(default_factory=list)


def settle_ports(wanted: Sequence[WantedPort], env: Mapping[str, str]) -> SettledPorts:
    """Settle all these ports at once, and keep them from others until this process ends.

    The default ports lie in the range from which Linux takes source ports of outgoing connections
    (50051 is what every gRPC example says, so they stay there). A default that such a connection
    holds is replaced by a free port. A default that another server listens on is a problem: what
    people call there by habit would be answered by that server.

    Raises:
        StackError: has a line for each value that is no port, each port that is taken or
            privileged, and each port that is wanted twice.
    """
    ports, problems = read_ports(env, wanted)
    settled = SettledPorts(ports)
    known = [port for port in wanted if port.variable in ports]
    problems += _clashes(known, ports)
    fixed = [port for port in known if ports[port.variable] != 0]
    taken = _wait_until_kept({port.variable: ports[port.variable] for port in fixed})
    for port in fixed:
        number, error = ports[port.variable], taken.get(port.variable)
        if isinstance(error, PermissionError):
            problems.append(_privileged(number, wanted_by=port.wanted_by, variable=port.variable))
        elif error is not None and (env.get(port.variable) or _is_claimed_or_served(number)):
            problems.append(_taken(number, wanted_by=port.wanted_by, variable=port.variable))
        elif error is not None:
            ports[port.variable] = pick_free_port()
            settled.notes.append(
                f"port {number} is the source port of a connection at present:"
                f" {port.wanted_by} has {ports[port.variable]} instead"
            )
    if problems:
        raise StackError(*problems)
    for port in known:
        ports[port.variable] = ports[port.variable] or pick_free_port()
    return settled


def _clashes(wanted: Sequence[WantedPort], ports: Mapping[str, int]) -> list[str]:
    counts = Counter(ports.values())
    return [
        f"port {number} is wanted by"
        f" {' and '.join(port.wanted_by for port in wanted if ports[port.variable] == number)}:"
        f" set {' or '.join(port.variable for port in wanted if ports[port.variable] == number)}"
        " to another one, or to 0 to have one picked"
        for number, count in counts.items()
        if number != 0 and count > 1
    ]


def _wait_until_kept(ports: Mapping[str, int]) -> dict[str, OSError]:
    """Keep each of these ports; return why the rest cannot be kept, by variable."""
    deadline = Deadline(RELEASE_TIMEOUT_S)
    left = dict(ports)
    while True:
        failures: dict[str, OSError] = {}
        for variable, port in left.items():
            try:
                _keep(port)
            except OSError as error:
                failures[variable] = error
        left = {variable: left[variable] for variable in failures}
        if not left or deadline.passed:
            return failures
        time.sleep(POLL_INTERVAL_S)


# Sockets that keep ports, by port; they are closed when the process ends.
_kept: dict[int, int] = {}


def _keep(port: int) -> None:
    """Keep a port for a child of this process, also while that child is down.

    A socket that is bound to a port and does not listen keeps Linux from giving the port to an
    outgoing connection, and does not hinder a server that sets SO_REUSEADDR, as all of ours do.

    Raises:
        OSError: the port is taken or privileged.
    """
    if port in _kept:
        return
    if not _claim(port):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if not is_free(port):
        _give_back(port)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    # Elsewhere two sockets cannot share an address so: there the port stays free until it is used.
    if sys.platform == "linux":
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as keeper:
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind((LOOPBACK, port))
            _kept[port] = keeper.detach()


def _is_claimed_or_served(port: int) -> bool:
    """Tell whether another stack of this user has the port, or a server listens on it."""
    if not _claim(port):
        return True
    _give_back(port)
    try:
        socket.create_connection((LOOPBACK, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
