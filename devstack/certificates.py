"""Certificates for development: those of an authority, a server and a client."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = dt.timedelta(days=365)
# Created again if less is left, so that none expires while the stack runs.
LEFT_LEAST = dt.timedelta(days=7)
SERVER_NAMES = ("localhost", "*.localhost")
SERVER_ADDRESSES = ("127.0.0.1", "::1")


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
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _lasts(files.authority):
        _create(files)
    return files


def _lasts(path: Path) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc - LEFT_LEAST > _now()


def _create(files: DevCertificates) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = (
        _builder("seckill development authority", authority_key.public_key())
        .issuer_name(_name("seckill development authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in SERVER_ADDRESSES]
    for name, usage, path, key_path in (
        ("localhost", ExtendedKeyUsageOID.SERVER_AUTH, files.server, files.server_key),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH, files.client, files.client_key),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, key.public_key())
            .issuer_name(authority.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if usage == ExtendedKeyUsageOID.SERVER_AUTH:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        certificate = builder.sign(authority_key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.touch(mode=0o600)
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    # Last: it stands for all of them.
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))


def _builder(name: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    start = _now() - dt.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALID)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
