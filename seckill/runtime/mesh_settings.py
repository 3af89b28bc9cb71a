"""Settings of the TLS between services."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from seckill.runtime.addresses import check_listen
from seckill.runtime.mesh_tls import PREFIX, MeshTls, mesh_tls
from seckill.runtime.store_tls import TlsFiles


def _check_probe_listen(value: str) -> str:
    return check_listen(value) if value else value


class MeshTlsSettings(BaseSettings):
    """What all services of a mesh say of the TLS between them alike."""

    # As CONFIG of settings.py, which is built on this.
    model_config = SettingsConfigDict(env_prefix="SECKILL_", frozen=True, extra="ignore")

    # PEM file of this service's certificate with its chain, for its server and its calls to other
    # services. Among its DNS names is `<stage>.<domain>`, which is who it is: gateway, inventory,
    # order, rollback or edge. With it every service demands such certificates, and permits each
    # stage only what it needs. Empty: services speak in clear. Each new connection uses these files
    # as they are then, so they may be renewed while a service runs.
    mesh_tls_certificate: str = ""
    # PEM file of its key.
    mesh_tls_key: str = ""
    # PEM file of the authorities that may vouch for the services.
    mesh_tls_ca: str = ""
    # What the names of stages in certificates end with.
    mesh_tls_domain: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$")] = (
        "seckill.internal"
    )
    # Listener in clear, host:port, that answers grpc.health.v1 and nothing else, for probes that
    # have no certificate, such as the kubelet's. Empty: there is none. Only with certificates.
    mesh_tls_probe_listen: Annotated[str, AfterValidator(_check_probe_listen)] = ""

    def mesh_tls(self) -> MeshTls | None:
        """Return how services speak to each other; None is in clear."""
        files = self._mesh_files()
        return mesh_tls(files, domain=self.mesh_tls_domain) if any(files.given()) else None

    def _mesh_files(self) -> TlsFiles:
        return TlsFiles(
            PREFIX,
            ca=self.mesh_tls_ca,
            certificate=self.mesh_tls_certificate,
            key=self.mesh_tls_key,
        )

    @model_validator(mode="after")
    def _mesh_files_can_be_used(self) -> Self:
        given = dict(self._mesh_files().given())
        for name in ("CERTIFICATE", "KEY", "CA"):
            if given and f"{PREFIX}_{name}" not in given:
                raise ValueError(f"{PREFIX}_{name} is not set, and {next(iter(given))} needs it")
        if self.mesh_tls_probe_listen and not given:
            raise ValueError(f"{PREFIX}_PROBE_LISTEN needs {PREFIX}_CERTIFICATE")
        self.mesh_tls()
        return self
