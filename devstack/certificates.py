"""Certificates for development: of the public's side, and of each stage of the mesh."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from devstack.authority import BOTH, CLIENT, SERVER, VALID, Authority, Issued
from seckill.runtime.callers import OPERATOR, STAGES

# Created again if less is left, so that none expires while the stack runs.
LEFT_LEAST = dt.timedelta(days=7)
SERVER_NAMES = ("localhost", "*.localhost")
MESH_DOMAIN = "seckill.internal"
# Of the mesh's certificates, in the stack's directory.
MESH_FOLDER = "tls-mesh"


@dataclass(frozen=True, kw_only=True)
class DevCertificates:
    """PEM files in one folder.

    Attributes:
        authority: the certificate that clients trust, and that the server trusts for clients.
    """

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


@dataclass(frozen=True, kw_only=True)
class MeshCertificates:
    """PEM files in one folder.

    Attributes:
        authority: the certificate that all stages trust.
        stages: what each stage has, by its name.
    """

    authority: Path
    stages: Mapping[str, Issued]

    @property
    def operator(self) -> Issued:
        """What the command, and the stack's own probes, have."""
        return self.stages[OPERATOR]

    def settings_of(self, stage: str) -> dict[str, str]:
        """Return the settings with which a stage is itself."""
        own = self.stages[stage]
        return {
            "SECKILL_MESH_TLS_CA": str(self.authority),
            "SECKILL_MESH_TLS_CERTIFICATE": str(own.certificate),
            "SECKILL_MESH_TLS_KEY": str(own.key),
        }


def load_or_create(directory: Path) -> DevCertificates:
    """Return the certificates in `directory`; create them if they are missing or expire soon.

    Raises:
        OSError: the directory cannot be written or the files not be read.
    """
    files = DevCertificates(
        authority=directory / "ca.pem",
        server=directory / "server.pem",
        server_key=directory / "server-key.pem",
        client=directory / "client.pem",
        client_key=directory / "client-key.pem",
    )
    if not all(map(_lasts, (files.authority, files.server, files.client))):
        authority = Authority(directory, "seckill development authority")
        authority.issue("localhost", file="server", dns=SERVER_NAMES, usages=SERVER)
        authority.issue("client", usages=CLIENT)
    return files


def load_or_create_mesh(directory: Path) -> MeshCertificates:
    """Return the certificates of all stages in `directory`, created as by `load_or_create`."""
    stages = {
        stage: Issued(directory / f"{stage}.pem", directory / f"{stage}-key.pem")
        for stage in STAGES
    }
    files = MeshCertificates(authority=directory / "ca.pem", stages=stages)
    if not all(map(_lasts, (files.authority, *(each.certificate for each in stages.values())))):
        authority = Authority(directory, "seckill development mesh")
        for stage in STAGES:
            issue_stage(authority, stage)
    return files


def issue_stage(authority: Authority, stage: str, *, valid: dt.timedelta = VALID) -> Issued:
    """Sign a certificate of a stage, `valid` for so long, in place of the one that it may have."""
    names = (f"{stage}.{MESH_DOMAIN}", "localhost")
    return authority.issue(stage, dns=names, usages=BOTH, valid=valid)


def _lasts(path: Path) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc - LEFT_LEAST > dt.datetime.now(dt.UTC)
