"""TLS for the front: HTTP's version by ALPN, with a certificate that may change while we run."""

import ssl
from pathlib import Path

import grpc
import structlog

from seckill.runtime.certificate_expiry import show_expiry

# RFC 9113, section 9.2: HTTP/2 over TLS is TLS 1.2 or later.
ALPN = ["h2"]
ALPN_WITH_HTTP_1 = ["h2", "http/1.1"]
log = structlog.get_logger()


class Certificate:
    """A certificate and its key in two files, read again when they have changed."""

    def __init__(self, certificate: str, key: str, *, http_1: bool = False) -> None:
        """
        Args:
            certificate, key: paths of PEM files.
            http_1: HTTP/1.1 is spoken, too.

        Raises:
            ValueError: naming them if they cannot be used.
        """
        self._paths = (Path(certificate), Path(key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(ALPN_WITH_HTTP_1 if http_1 else ALPN)
        try:
            self._seen = self._read()
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"cannot use {certificate} with {key}: {error}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """The same for grpc.aio, as the files are now."""
        certificate, key = (path.read_bytes() for path in self._paths)
        return grpc.ssl_server_credentials([(key, certificate)])

    def reload(self) -> None:
        """Use new files for connections to come, if there are any; a bad one changes nothing."""
        try:
            if self._changes() != self._seen:
                self._seen = self._read()
                log.info("certificate reloaded", path=str(self._paths[0]))
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate cannot be reloaded", error=str(error))

    def _read(self) -> tuple[int, ...]:
        changes = self._changes()
        self.context.load_cert_chain(*self._paths)
        show_expiry("gateway", self._paths[0].read_bytes())
        return changes

    def _changes(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._paths)
