"""Programs that no wheel brings, from Debian's packages; without them their tests are skipped."""

import shutil
from pathlib import Path

import pytest

_INSTALL = "install Debian's {package}: python -m tools.debian stores"


def pgbouncer_binary() -> Path:
    """Return the program, or skip the test."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    if found is None:
        pytest.skip(_INSTALL.format(package="pgbouncer"))
    return Path(found)


def tls_redis_binary(package: str = "redis-server") -> Path:
    """Return a Redis that was built with TLS (the wheels' were not), or skip the test.

    `package`: "redis-server", or "valkey-server", which Debian has since 13, and in the backports
    of 12.
    """
    found = shutil.which(package, path="/usr/bin")
    if found is None:
        pytest.skip(_INSTALL.format(package=package))
    return Path(found)


def tls_postgres_binaries() -> Path:
    """Return the folder of a Postgres that was built with TLS (the wheel's was not), or skip."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not folders:
        pytest.skip(_INSTALL.format(package="postgresql"))
    return folders[-1].parent
