"""When the front's certificate ends is a metric, also after it was replaced."""

import os
from pathlib import Path

from cryptography import x509
from prometheus_client import REGISTRY

from devstack.certificates import load_or_create
from gateway.front.tls import Certificate
from seckill.runtime.certificate_expiry import CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS


def shown() -> float | None:
    """Return what the metric says."""
    return REGISTRY.get_sample_value(
        "seckill_certificate_expiry_timestamp_seconds", {"use": "gateway"}
    )


def ends(path: Path) -> float:
    """Return when a certificate ends."""
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


def test_the_end_of_the_certificate_in_use_is_shown(tmp_path: Path) -> None:
    """That of the file at start, then that of the file that took its place."""
    first = load_or_create(tmp_path / "first")
    certificate = Certificate(str(first.server), str(first.server_key))
    assert shown() == ends(first.server)
    second = load_or_create(tmp_path / "second")
    for new, old in ((second.server, first.server), (second.server_key, first.server_key)):
        old.write_bytes(new.read_bytes())
    # A file system may not tell the two writes apart.
    os.utime(first.server, ns=(1, 1))
    CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS.labels("gateway").set(0)
    certificate.reload()
    assert shown() == ends(second.server)
