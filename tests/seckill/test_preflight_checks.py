"""Checks that all services have in common: what ends, clocks, versions."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from rollback_svc.settings import RollbackSettings
from seckill.errors import DependencyUnavailable
from seckill.findings import FAILED, OK, WARNING, Crowd, Finding, clock_finding, judged
from seckill.runtime.preflight.common import (
    certificates,
    keys,
    readiness,
    run_all,
    version_finding,
)

HOUR_S = 3_600.0


def crowd(ends_in_s: float = HOUR_S) -> Crowd:
    """Return one whose sale ends in so many seconds."""
    return Crowd(buyers=100, units=10, seconds=10.0, end_s=time.time() + ends_in_s)


def write_certificate(path: Path, *, ends_in_s: float) -> Path:
    """Write a certificate that ends in so many seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    found = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(seconds=ends_in_s))
        .sign(key, SHA256())
    )
    path.write_bytes(found.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("ends_in_s", "verdict", "words"),
    [
        (60.0, FAILED, "before the sale is over"),
        (-60.0, FAILED, "ended"),
        (2 * 86_400.0, WARNING, "within a week"),
        (400 * 86_400.0, OK, "ends"),
    ],
)
async def test_a_certificate_must_outlive_the_sale(
    tmp_path: Path, ends_in_s: float, verdict: int, words: str
) -> None:
    """And one that hardly does is worth a word; the setting is named."""
    path = write_certificate(tmp_path / "ca.pem", ends_in_s=ends_in_s)
    settings = RollbackSettings.model_validate(
        {"redis_url": "rediss://localhost:1", "redis_tls_ca": str(path)}
    )
    (found,) = await certificates(settings)(crowd())
    assert found.verdict == verdict
    assert words in found.found
    assert "SECKILL_REDIS_TLS_CA" in found.name
    assert ("SECKILL_REDIS_TLS_CA" in found.advice) is (verdict != OK)


async def test_a_key_that_ends_before_the_sale_is_a_failure(tmp_path: Path) -> None:
    """By its member exp; keys without one have no end."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{"kid": "a"}, {"kid": "b", "exp": time.time() + 60}]}))
    (found,) = await keys("SECKILL_GATEWAY_JWKS", str(path))(crowd())
    assert (found.verdict, "before the sale" in found.found) == (FAILED, True)
    path.write_text(json.dumps({"keys": [{"kid": "a"}]}))
    assert [one.verdict for one in await keys("SECKILL_GATEWAY_JWKS", str(path))(crowd())] == [OK]
    path.write_text("{")
    (found,) = await keys("SECKILL_GATEWAY_JWKS", str(path))(crowd())
    assert found.verdict == FAILED


def test_clocks_may_differ_by_less_than_a_purchase_token_allows() -> None:
    """Half a second shows at the start of a sale; five break tokens."""
    assert clock_finding("clock", 0.1).verdict == OK
    assert clock_finding("clock", -0.6).verdict == WARNING
    assert clock_finding("clock", -5.1).verdict == FAILED


def test_a_store_must_not_be_older_than_what_is_supported() -> None:
    """Compared by numbers, not by text."""
    assert version_finding("redis", "Redis 10.0.1", least=(6, 2)).verdict == OK
    assert version_finding("redis", "Redis 6.0.16", least=(6, 2)).verdict == FAILED


async def test_a_store_that_is_away_is_a_finding_and_stops_no_other_check() -> None:
    """As are readiness checks that fail, by name."""

    async def away(_: Crowd) -> list[Finding]:
        raise DependencyUnavailable("kafka does not answer")

    async def fails() -> None:
        raise RuntimeError("no lease")

    found = await run_all([away, readiness({"store": fails})], crowd())
    assert [one.verdict for one in found] == [FAILED, FAILED]
    assert "kafka" in found[0].found
    assert found[1].name == "readiness: store"


def test_settings_that_cannot_be_read_are_to_be_looked_at_by_hand() -> None:
    """Managed stores do not tell."""
    found = judged("redis durability", None, advice="CONFIG GET", verdict=FAILED)
    assert (found.verdict, "CONFIG GET" in found.advice) == (WARNING, True)
