"""Loopback ports: pick a free one, or say in one line that a wanted one is taken."""

import errno
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from deploy.local.deadline import Deadline
from deploy.local.errors import StackError

LOOPBACK = "127.0.0.1"
# Below every common ephemeral range (Linux from 32768, macOS from 49152): a client that keeps
# dialling a killed store from inside that range can be given the store's own port as its source
# port and so connect to itself, and the store then cannot come back on it.
FIRST_PORT, LAST_PORT = 20_000, 29_999
PICKS_MAX = 200
# A process that was just killed gives its port back within milliseconds.
RELEASE_TIMEOUT_S = 1.5


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

    Between the pick and the server's bind nobody else who picks here gets the same port: not this
    process, and as long as this one lives no other of this user.

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


@cache
def _claims() -> int:
    # The locks end with the process, so nothing has to be tidied up.
    path = Path(tempfile.gettempdir()) / f"seckill-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def wait_until_free(port: int, *, wanted_by: str, variable: str) -> Iterator[None]:
    """Wait briefly until a wanted port is free.

    Args:
        port: the port.
        wanted_by: who asks for it, for the message.
        variable: the environment variable that chooses another one, for the message.

    Raises:
        StackError: the port is taken or privileged.
    """
    deadline = Deadline(RELEASE_TIMEOUT_S)
    try:
        while not is_free(port):
            if deadline.passed:
                raise StackError(
                    f"port {port} on {LOOPBACK}, wanted by {wanted_by}, is taken by another"
                    f" program: set {variable} to a free port, or to 0 to have one picked"
                )
            yield
    except PermissionError as error:
        raise StackError(
            f"port {port} on {LOOPBACK}, wanted by {wanted_by}, needs privileges:"
            f" set {variable} to a port above 1023, or to 0 to have one picked"
        ) from error
