"""PgBouncer, which lends sessions of a Postgres for one transaction each."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from devstack.ports import LOOPBACK
from devstack.process import ProcessSpec
from devstack.server import Server, plain_environment

# Fewer than the clients have connections, so that sessions change hands all the time.
SESSIONS = 2


class PgBouncer(Server):
    """One pooler before a Postgres, for all of its databases."""

    name: ClassVar[str] = "pgbouncer"
    port_variable: ClassVar[str] = "SECKILL_TEST_PGBOUNCER_PORT"

    def __init__(self, directory: Path, *, binary: Path, behind: str, settings: str = "") -> None:
        """
        Args:
            directory: its own.
            binary: the program.
            behind: postgresql:// address of the Postgres.
            settings: further lines of its configuration.
        """
        super().__init__(directory)
        self._binary = binary
        self._behind = urlsplit(behind)
        self._settings = settings

    @property
    def url(self) -> str:
        """Its address; user, password and database are those of the Postgres."""
        behind = self._behind
        return behind._replace(
            netloc=f"{behind.username}:{behind.password}@{LOOPBACK}:{self.port}"
        ).geturl()

    def dsn(self, database: str) -> str:
        """Return the address of another database."""
        return f"{self.url.rpartition('/')[0]}/{database}"

    def _prepare(self) -> Iterator[None]:
        users = self.directory / "users.txt"
        users.write_text(f'"{self._behind.username}" "{self._behind.password}"\n')
        yield from ()

    def _spec(self) -> ProcessSpec:
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(f"""\
[databases]
* = host={self._behind.hostname} port={self._behind.port}
[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.directory / "users.txt"}
pool_mode = transaction
default_pool_size = {SESSIONS}
max_client_conn = 200
{self._settings}
""")
        return ProcessSpec(
            name=self.name,
            command=[str(self._binary), str(configuration)],
            log_path=self.log_path,
            env=plain_environment(),
            ready=self._listens,
            address=f"{LOOPBACK}:{self.port}",
            # It refuses to run as root.
            user="nobody" if os.geteuid() == 0 else None,
        )

    def _listens(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True
