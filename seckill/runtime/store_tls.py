"""TLS to a store: the files that settings name, checked at start and read again on change."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TlsContents:
    """What is in the files, in PEM; empty for one that is not given.

    Attributes:
        chain: the certificates of `certificate`, ours first.
    """

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; "" for one that is not given.

    Attributes:
        prefix: what their variables begin with, e.g. "SECKILL_REDIS_TLS".
        ca: the authorities that may vouch for the store; without them the system's.
        certificate, key: ours, for a store that demands one.
    """

    prefix: str
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def given(self) -> Iterator[tuple[str, str]]:
        """The variable and the path of each file that is given."""
        for name in ("ca", "certificate", "key"):
            if path := getattr(self, name):
                yield f"{self.prefix}_{name.upper()}", path

    def check(self) -> None:
        """Raise ValueError, naming the variable, unless the files can be read and fit together."""
        self.read()

    def read(self) -> TlsContents:
        """Return what is in the files.

        Raises:
            ValueError: they cannot be read, or do not fit together; names the variable.
        """
        if bool(self.certificate) != bool(self.key):
            raise ValueError(f"{self.prefix}_CERTIFICATE and {self.prefix}_KEY are set together")
        contents = {variable: read_bytes(variable, path) for variable, path in self.given()}
        chain: tuple[x509.Certificate, ...] = ()
        if self.ca:
            _parse(f"{self.prefix}_CA", self.ca, _certificates, contents)
        if self.certificate:
            chain = tuple(
                _parse(f"{self.prefix}_CERTIFICATE", self.certificate, _certificates, contents)
            )
            key = _parse(f"{self.prefix}_KEY", self.key, _private_key, contents)
            if chain[0].public_key() != key.public_key():
                raise ValueError(
                    f"{self.prefix}_KEY={self.key!r}: is not the key of the certificate in"
                    f" {self.prefix}_CERTIFICATE={self.certificate!r}"
                )
        ca, certificate, key = (
            contents.get(f"{self.prefix}_{name}", b"") for name in ("CA", "CERTIFICATE", "KEY")
        )
        return TlsContents(ca, certificate, key, chain)

    def changes(self) -> tuple[tuple[int, int, int], ...]:
        """Return what differs once a file is another one; raises OSError if one is missing."""
        stats = [Path(path).stat() for _, path in self.given()]
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def read_bytes(variable: str, path: str) -> bytes:
    """Return what is in a file; raise ValueError naming the variable if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{variable}={path!r}: cannot be read: {error.strerror}") from error


def _parse(variable: str, path: str, parse: Callable[[bytes], T], contents: dict[str, bytes]) -> T:
    try:
        return parse(contents[variable])
    except ValueError as error:
        raise ValueError(f"{variable}={path!r}: {error}") from error


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError("holds no certificate in PEM form") from None


def _private_key(content: bytes) -> Any:
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError("is encrypted: give a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no private key in PEM form") from None


class StoreContext(ssl.SSLContext):
    """For connections to a store. Each new one uses the files as they are then.

    So certificates may be renewed under a process that runs. An authority that is gone from its
    file is trusted until the process ends.
    """

    def __new__(cls, files: TlsFiles, *, check_name: bool) -> Self:  # noqa: ARG004 - of __init__
        """Return a context of a client, without files yet."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, files: TlsFiles, *, check_name: bool) -> None:
        """Read the files.

        Args:
            files: what the settings name, checked.
            check_name: whether the store's certificate must name the host that we connect to.
        """
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.check_hostname = check_name
        if not files.ca:
            self.load_default_certs()
        self._files = files
        self._seen = files.changes()
        self._load()

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Start TLS on a connection; both event loops call it for each one."""
        self._reload()
        return super().wrap_bio(*arguments, **options)

    def _reload(self) -> None:
        try:
            changes = self._files.changes()
            if changes != self._seen:
                # Half of a new pair would spoil the context; what is whole is loaded.
                self._files.check()
                self._load()
                self._seen = changes
                log.info("tls files reloaded", setting=self._files.prefix)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.warning(
                "tls files cannot be reloaded", setting=self._files.prefix, error=str(error)
            )

    def _load(self) -> None:
        if self._files.ca:
            self.load_verify_locations(cafile=self._files.ca)
        if self._files.certificate:
            self.load_cert_chain(self._files.certificate, self._files.key)


@cache
def store_context(files: TlsFiles, *, check_name: bool = True) -> StoreContext:
    """Return the context for these files, one for all connections of the process."""
    return StoreContext(files, check_name=check_name)
