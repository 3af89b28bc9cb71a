"""Postgres that takes TLS with a client certificate of the user's name only."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from devstack.authority import Authority
from devstack.ports import LOOPBACK
from devstack.process import ProcessSpec
from devstack.server import Server, plain_environment

USER, PASSWORD, DATABASE = "seckill", "of-the-mesh", "postgres"
INITDB_TIMEOUT_S = 60.0
UNPRIVILEGED_USER = "nobody"
_ACCESS = """\
hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full
"""


class SecurePostgres(Server):
    """One server: a password and a certificate, both, and nothing in clear."""

    name: ClassVar[str] = "secure-postgres"
    port_variable: ClassVar[str] = "SECKILL_TEST_POSTGRES_PORT"

    def __init__(self, directory: Path, authority: Authority, binaries: Path) -> None:
        super().__init__(directory)
        self._authority = authority
        self._binaries = binaries
        self._data = self.directory / "data"
        self._user = UNPRIVILEGED_USER if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """Its address, with user and password."""
        return f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/{DATABASE}"

    def _prepare(self) -> Iterator[None]:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self._data, self._user)
        yield from self._run(
            "initdb",
            [
                str(self._binaries / "initdb"),
                *("-D", str(self._data), "-U", USER, f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            timeout_s=INITDB_TIMEOUT_S,
            env=plain_environment(),
        )
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    def _step_spec(self, name: str, command: list[str], env: Mapping[str, str]) -> ProcessSpec:
        log_path = self.directory / f"{name}.log"
        return ProcessSpec(name=name, command=command, log_path=log_path, env=env, user=self._user)

    def _spec(self) -> ProcessSpec:
        server = self._authority.issue("postgres")
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": str(server.certificate),
            "ssl_key_file": str(server.key),
            "ssl_ca_file": str(self._authority.certificate),
            "dynamic_shared_memory_type": "mmap",
        }
        arguments = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        return ProcessSpec(
            name=self.name,
            command=[str(self._binaries / "postgres"), "-D", str(self._data), *arguments],
            log_path=self.log_path,
            env=plain_environment(),
            ready=self._answers,
            address=f"{LOOPBACK}:{self.port}",
            user=self._user,
            stop_signal=signal.SIGINT,
        )

    def _answers(self) -> bool:
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(asked, check=False, env=plain_environment()).returncode == 0
