"""The four services as processes of a test, on free ports, and stores that they can use."""

import os
import signal
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import grpc
import pytest

from devstack import Process, ProcessSpec, Stores, create_topics
from devstack.deadline import drive
from devstack.mesh import (
    SERVICES,
    TOPIC_SETTINGS,
    TOPICS,
    claim_ports,
    command_settings,
    mesh_certificates,
    service_environment,
    service_specs,
)
from order_svc.db.migrate import migrate
from seckill.runtime.callers import EDGE, OPERATOR, SHOP
from seckill.runtime.dev_issuer import load_or_create
from seckill_cli.load.link import LinkTls
from tests.kits.planted_bug import chosen, command_with
from tests.kits.secure.permitted import PermittedChannel, credentials_of

# Every mesh of the end-to-end tests demands certificates of its callers.
ALL_SECURE = os.environ.get("SECKILL_TEST_SECURE") == "1"
FREE_PORTS = {
    variable: "0"
    for service in SERVICES
    for variable in (service.port_variable, service.metrics_port_variable)
}


@pytest.fixture(scope="session")
async def prepared_stores(stores: Stores) -> Stores:
    """Create the mesh's topics and schema, and return the stores."""
    await create_topics(stores.kafka_bootstrap, TOPICS, TOPIC_SETTINGS)
    await migrate(stores.postgres_dsn)
    return stores


class Mesh:
    """The four services; a context manager that starts and stops them."""

    def __init__(
        self,
        stores: Stores,
        *,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        secure: bool = False,
        own: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """
        Args:
            settings: SECKILL_ variables that differ from the local stack's.
            own: those of single services, by name.
            secure: services demand certificates.
        """
        self.stores = stores
        self.certificates = mesh_certificates(directory) if secure else None
        self.directory = directory
        self.ports = claim_ports(FREE_PORTS)
        self.issuer = load_or_create(directory / "secrets")
        inherited = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
        self.settings = {
            **service_environment(stores, ports=self.ports, issuer=self.issuer),
            **(settings or {}),
        }
        specs = service_specs(
            {**inherited, **self.settings},
            ports=self.ports,
            directory=directory,
            certificates=self.certificates,
        )
        self._specs: dict[str, ProcessSpec] = {
            # campaigns/proof.py plants a bug here.
            spec.name: replace(
                spec,
                command=command_with(spec.command, chosen()),
                env={**spec.env, **(own or {}).get(spec.name, {})},
            )
            for spec in specs
        }
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        try:
            for name in self._specs:
                self._processes[name] = Process(self._specs[name])
            drive([process.wait_ready() for process in self._processes.values()])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop what runs, last started first."""
        while self._processes:
            self._processes.popitem()[1].stop()

    def kill(self, name: str) -> None:
        """Kill a service with SIGKILL."""
        self._processes[name].kill()

    def freeze(self, name: str) -> None:
        """Send SIGSTOP: the service does nothing, and its connections stay open."""
        self._processes[name].send(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Send SIGCONT to a frozen service."""
        self._processes[name].send(signal.SIGCONT)

    def terminate(self, name: str) -> int:
        """Stop a service with SIGTERM, and return its exit code."""
        process = self._processes[name]
        process.stop()
        return process.returncode or 0

    def change(self, name: str, settings: Mapping[str, str]) -> None:
        """Have a service start with other settings from now on."""
        spec = self._specs[name]
        self._specs[name] = replace(spec, env={**spec.env, **settings})

    def restart(self, name: str) -> None:
        """Start a service that has ended, and wait until it is ready."""
        self._processes[name] = Process(self._specs[name])
        drive([self._processes[name].wait_ready()])

    def pid(self, name: str) -> int:
        """Return the process id of a service."""
        return self._processes[name].pid

    def address(self, name: str) -> str:
        """Return the host:port of a service."""
        return self._specs[name].address

    def channel(self, name: str, *, stage: str = "") -> grpc.aio.Channel:
        """Open a channel to a service.

        Args:
            stage: who calls, if services demand certificates; by default one that may, call by
                call.
        """
        address, options = self.address(name), [("grpc.use_local_subchannel_pool", 1)]
        certificates = self.certificates
        if certificates is None:
            return grpc.aio.insecure_channel(address, options=options)

        def open_as(one: str) -> grpc.aio.Channel:
            return grpc.aio.secure_channel(
                address, credentials_of(certificates, one), options=options
            )

        return open_as(stage) if stage else PermittedChannel(open_as)

    def call_credentials(self, stage: str = OPERATOR) -> grpc.ChannelCredentials | None:
        """Return what a caller has; None if services speak in clear."""
        return credentials_of(self.certificates, stage) if self.certificates else None

    @property
    def link_tls(self) -> LinkTls | None:
        """What a crowd calls the gateway with; None if services speak in clear."""
        if self.certificates is None:
            return None
        own = self.certificates.operator
        return LinkTls(self.certificates.authority, own.certificate, own.key)

    @property
    def edge_settings(self) -> Mapping[str, str]:
        """The settings with which an edge finds this mesh, and is let in."""
        own = self.certificates.settings_of(EDGE) if self.certificates else {}
        return {**self.settings, **own}

    @property
    def shop_settings(self) -> Mapping[str, str]:
        """The variables with which the example's shop is let in."""
        if self.certificates is None:
            return {}
        own = self.certificates.stages[SHOP]
        return {
            "SHOP_TLS_CA": str(self.certificates.authority),
            "SHOP_TLS_CERT": str(own.certificate),
            "SHOP_TLS_KEY": str(own.key),
        }

    @property
    def command_settings(self) -> Mapping[str, str]:
        """The settings with which the command is let in."""
        return command_settings(self.certificates) if self.certificates else {}

    def identity(self, user_id: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata that identifies a buyer."""
        return (("authorization", f"Bearer {self.issuer.token(user_id)}"),)

    def metrics(self, name: str) -> str:
        """Return a service's metrics, as Prometheus reads them."""
        url = f"http://127.0.0.1:{self.ports[name].metrics}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def log(self, name: str) -> str:
        """Return what a service has logged."""
        return self._specs[name].log_path.read_text()
