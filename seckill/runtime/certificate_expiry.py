"""Tells by metrics when certificates end."""

import structlog
from cryptography import x509
from prometheus_client import Gauge

log = structlog.get_logger()

CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS = Gauge(
    "seckill_certificate_expiry_timestamp_seconds",
    "Unix time at which the first certificate of a chain in use ends, by what it is used for.",
    ["use"],
)


def show_expiry(use: str, chain: bytes) -> None:
    """Show when the first certificate of a chain ends; nothing if it cannot be read.

    Args:
        use: what the chain is for, from a closed set.
        chain: PEM.
    """
    try:
        ends = min(found.not_valid_after_utc for found in x509.load_pem_x509_certificates(chain))
    except ValueError as error:
        log.warning("end of a certificate is not known", use=use, error=str(error))
        return
    CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS.labels(use).set(ends.timestamp())
