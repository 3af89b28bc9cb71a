"""TLS between the services of a mesh: one certificate for each stage, which names it.

A stage is `<stage>.<domain>` among the DNS names of its certificate. Servers demand a certificate
of the mesh's authority, and callers.py says what the stage in it may call; clients demand that the
server's certificate names the stage they call. Files are read again when they change; what cannot
be used is refused, and the old ones stay in use.
"""

import asyncio
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Self

import grpc
import structlog
from cryptography import x509
from prometheus_client import Counter

from seckill.runtime.callers import NOBODY, STAGES, Caller, caller
from seckill.runtime.certificate_expiry import show_expiry
from seckill.runtime.store_tls import TlsContents, TlsFiles

PREFIX = "SECKILL_MESH_TLS"
# Files are looked at this often.
LOOK_S = 1.0
ALPN_HTTP_2 = "h2"

MESH_CERTIFICATES_REFUSED_TOTAL = Counter(
    "seckill_mesh_certificates_refused_total",
    "New files of the mesh's TLS that could not be used; the old ones stay in use.",
)
log = structlog.get_logger()


class MeshTls:
    """Our certificate, the authority, and what both are good for."""

    def __init__(
        self, files: TlsFiles, *, domain: str, now_s: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            files: all three of them.
            domain: what stages' names end with.

        Raises:
            ValueError: a file cannot be used; names its variable.
        """
        self._files = files
        self._domain = domain
        self._now_s = now_s
        # Connections are accepted on threads of gRPC's too.
        self._lock = threading.Lock()
        self._look_next_s = 0.0
        self._seen = self._changes()
        self._contents = self._read()
        # The last refusal: it is logged once, and tried again until the files are right.
        self._complaint: object = None
        self._context: tuple[TlsContents, ssl.SSLContext] | None = None
        self._client_context: tuple[TlsContents, ssl.SSLContext] | None = None

    # -- the files -------------------------------------------------------------------------------

    def contents(self) -> TlsContents:
        """Return the files that are in use; of new ones the first look takes note."""
        if time.monotonic() < self._look_next_s:
            return self._contents
        with self._lock:
            self._look_next_s = time.monotonic() + LOOK_S
            self._look()
            return self._contents

    def _look(self) -> None:
        changes = self._changes()
        if changes == self._seen:
            return
        try:
            self._contents = self._read()
        except ValueError as error:
            complaint = (changes, str(error))
            if complaint != self._complaint:
                self._complaint = complaint
                MESH_CERTIFICATES_REFUSED_TOTAL.inc()
                log.warning("mesh certificate refused, the old one is used", error=str(error))
            return
        self._seen = changes
        log.info("mesh certificate reloaded", path=self._files.certificate)

    def _changes(self) -> tuple[tuple[int, int, int], ...]:
        try:
            return self._files.changes()
        except OSError:
            # What is missing is named when it is read.
            return ()

    def _read(self) -> TlsContents:
        contents = self._files.read()
        ours = contents.chain[0]
        named = f"{PREFIX}_CERTIFICATE={self._files.certificate!r}"
        now_s = self._now_s()
        if ours.not_valid_after_utc.timestamp() <= now_s:
            raise ValueError(f"{named}: ended at {ours.not_valid_after_utc.isoformat()}")
        if ours.not_valid_before_utc.timestamp() > now_s:
            raise ValueError(f"{named}: begins at {ours.not_valid_before_utc.isoformat()}")
        if self.stage_of(_dns_names(ours)) == NOBODY:
            names = ", ".join(f"{stage}.{self._domain}" for stage in STAGES)
            raise ValueError(f"{named}: must name one stage of the mesh, one of {names}")
        show_expiry("mesh", contents.certificate)
        return contents

    async def run(self) -> None:
        """Look at the files every second until cancelled, also while nobody connects."""
        while True:
            self.contents()
            await asyncio.sleep(LOOK_S)

    # -- names -----------------------------------------------------------------------------------

    def name_of(self, stage: str) -> str:
        """Return the name that a stage has in its certificate."""
        return f"{stage}.{self._domain}"

    def stage_of(self, names: Iterable[str]) -> str:
        """Return the stage that the DNS names of a certificate name; NOBODY unless it is one."""
        ending = f".{self._domain}"
        ours = {name.removesuffix(ending) for name in names if name.endswith(ending)}
        found = [stage for stage in STAGES if stage in ours]
        return found[0] if len(found) == 1 else NOBODY

    # -- gRPC ------------------------------------------------------------------------------------

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return what a server of gRPC uses: the files as they are at each new connection."""
        used = self.contents()

        def fetch() -> Any:
            nonlocal used
            now = self.contents()
            if now is used:
                return None
            used = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(used), fetch, require_client_authentication=True
        )

    def check_caller(self, context: grpc.aio.ServicerContext[Any, Any], path: str) -> None:
        """Raise NotAllowed unless the caller may make this call of gRPC.

        Who reaches a socket of ours in the file system has come through a door that looked.
        """
        if context.peer().startswith("unix:"):
            return
        names = context.auth_context().get("peer_dns", ())
        caller(self.stage_of(name.decode("latin-1") for name in names)).check(path)

    # -- HTTP/2 of our own -----------------------------------------------------------------------

    def server_context(self) -> ssl.SSLContext:
        """Return what a server of asyncio uses: the files as they are at each new connection."""
        return _Renewed(self)

    def context(self) -> ssl.SSLContext:
        """Return a context of a server, with the files as they are now."""
        contents = self.contents()
        if self._context is None or self._context[0] is not contents:
            self._context = (contents, _server_context(contents))
        return self._context[1]

    def client_context(self) -> ssl.SSLContext:
        """Return a context of a client, with the files as they are now; connections name a stage
        (`name_of`) as the server's host name.
        """
        contents = self.contents()
        if self._client_context is None or self._client_context[0] is not contents:
            self._client_context = (contents, _client_context(contents))
        return self._client_context[1]

    def caller_at(self, connection: ssl.SSLObject) -> Caller:
        """Return who is at the other end of a connection."""
        certificate = connection.getpeercert() or {}
        alternatives: Any = certificate.get("subjectAltName", ())
        return caller(self.stage_of(name for kind, name in alternatives if kind == "DNS"))


class _Renewed(ssl.SSLContext):
    """Has each connection begun by the context that is right then."""

    def __new__(cls, tls: MeshTls) -> Self:  # noqa: ARG004 - of __init__
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: MeshTls) -> None:
        self._tls = tls

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._tls.context().wrap_bio(*arguments, **options)


def _server_context(contents: TlsContents) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN_HTTP_2, "http/1.1"])
    _load(context, contents)
    return context


def _client_context(contents: TlsContents) -> ssl.SSLContext:
    # It demands a certificate that names the host.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ALPN_HTTP_2])
    _load(context, contents)
    return context


def _load(context: ssl.SSLContext, contents: TlsContents) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=contents.ca.decode("ascii", "replace"))
    # `ssl` takes a certificate and a key from files only.
    with tempfile.TemporaryDirectory(prefix="seckill-mesh-") as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(contents.key + b"\n" + contents.certificate)
        context.load_cert_chain(pair)


def _configuration(contents: TlsContents) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.certificate)], root_certificates=contents.ca
    )


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


@cache
def mesh_tls(files: TlsFiles, *, domain: str) -> MeshTls:
    """Return the TLS of these files, one for all servers and channels of the process."""
    return MeshTls(files, domain=domain)
