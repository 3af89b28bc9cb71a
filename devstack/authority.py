"""A certificate authority in a folder, and what it signs: for development and tests."""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = dt.timedelta(days=365)
LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
BOTH = (*SERVER, *CLIENT)


@dataclass(frozen=True)
class Issued:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, each into files of its own in one folder.

    Attributes:
        certificate: of the authority, for those who trust it.
    """

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        """Make a new authority, whose files replace those of another one in `directory`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self.certificate = directory / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signed = (
            _builder(self._name, self._name, self._key.public_key(), valid=VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write_key(directory / "ca-key.pem", self._key)
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Return the authority of a folder, to sign further certificates.

        Raises:
            OSError: there is none.
        """
        self = cls.__new__(cls)
        self._directory = directory
        self.certificate = directory / "ca.pem"
        key = load_pem_private_key((directory / "ca-key.pem").read_bytes(), password=None)
        self._key = cast("ec.EllipticCurvePrivateKey", key)
        self._name = x509.load_pem_x509_certificate(self.certificate.read_bytes()).subject
        return self

    def issue(
        self,
        name: str,
        *,
        host: str = "",
        dns: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
        file: str = "",
        password: str = "",
        valid: dt.timedelta = VALID,
    ) -> Issued:
        """Sign a certificate whose common name is `name`.

        Args:
            name: whom it names.
            host: address in it; those of loopback by default.
            dns: names in it.
            usages: as which end of a connection it is good.
            file: what its files are called; `name` by default.
            password: encrypts the key.
            valid: for how long; it began an hour ago, so less than nothing is a past one.
        """
        issued = Issued(*(self._directory / f"{file or name}{end}.pem" for end in ("", "-key")))
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = (host,) if host else LOOPBACK_ADDRESSES
        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        signed = (
            _builder(_name(name), self._name, key.public_key(), valid=valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _write_key(issued.key, key, password)
        issued.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return issued


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, password: str = "") -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode())
            if password
            else serialization.NoEncryption(),
        )
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    valid: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + valid)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
