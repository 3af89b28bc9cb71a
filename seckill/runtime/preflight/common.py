"""Checks that services have in common: readiness, clocks, what expires, versions of stores."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from pydantic_settings import BaseSettings

from seckill.errors import DependencyUnavailable
from seckill.findings import FAILED, OK, WARNING, Check, Crowd, Finding, clock_finding
from seckill.runtime.jwks import read_jwks
from seckill.runtime.redis_client import redis_faults

# What ends so soon after the sale is worth a word.
EXPIRY_SPARE_S = 7 * 86_400.0
_CERTIFICATE_FIELD = re.compile(r".*_tls_(ca|certificate)")


def readiness(checks: Mapping[str, Callable[[], Awaitable[Any]]]) -> Check:
    """Return a check that runs those which the service's readiness needs; a finding for each."""

    async def check(_: Crowd) -> Sequence[Finding]:
        findings = []
        for name, look in checks.items():
            try:
                await look()
            except Exception as error:  # noqa: BLE001 - any failure of a check is a finding
                findings.append(
                    Finding(
                        f"readiness: {name}",
                        FAILED,
                        str(error) or repr(error),
                        "docs/runbook.md, at its alert; the service's log says since when",
                    )
                )
        return findings or [Finding("readiness", OK, f"ready: {', '.join(checks)}")]

    return check


def clock_of(store: str, now_s: Callable[[], Awaitable[float]]) -> Check:
    """Return a check of a store's clock against ours; `now_s`: its Unix time."""

    async def check(_: Crowd) -> Sequence[Finding]:
        before_s = time.time()
        there_s = await now_s()
        # The reply was made somewhere in between.
        ahead_s = there_s - (before_s + time.time()) / 2
        return [clock_finding(f"clock of {store}", ahead_s)]

    return check


async def redis_now_s(client: Any) -> float:
    """Return the Unix time of Redis; raises DependencyUnavailable."""
    with redis_faults():
        seconds, microseconds = await client.time()
    return int(seconds) + int(microseconds) / 1e6


def certificates(settings: BaseSettings) -> Check:
    """Return a check of every certificate that a setting names, by the end of its first one."""
    paths = {
        name: value
        for name, value in settings
        if _CERTIFICATE_FIELD.fullmatch(name) and isinstance(value, str) and value
    }

    async def check(crowd: Crowd) -> Sequence[Finding]:
        findings = [_certificate(name, path, crowd) for name, path in paths.items()]
        return findings or [Finding("certificates", OK, "none is set")]

    return check


def _certificate(field: str, path: str, crowd: Crowd) -> Finding:
    setting = f"SECKILL_{field.upper()}"
    advice = f"renew the file that {setting} names; it is read again without a restart"
    try:
        chain = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return Finding(f"certificate {setting}", FAILED, str(error), advice)
    ends_s = min(one.not_valid_after_utc.timestamp() for one in chain)
    return _expiry(f"certificate {setting}", ends_s, crowd, advice=advice)


def keys(setting: str, source: str) -> Check:
    """Return a check of an issuer's keys, read now.

    A key's end is the member `exp` (Unix time), or that of the certificate in `x5c`.
    """

    async def check(crowd: Crowd) -> Sequence[Finding]:
        name = f"keys {setting}"
        if not source:
            return [Finding(name, WARNING, "not set: operators are refused", f"set {setting}")]
        advice = f"let the issuer publish new keys before the sale ({setting})"
        try:
            found = json.loads(read_jwks(source))["keys"]
        except (ValueError, KeyError, TypeError) as error:
            return [Finding(name, FAILED, f"cannot be read: {error}", advice)]
        ends_s = [end for key in found if (end := _end_of_key(key)) is not None]
        if not ends_s:
            return [Finding(name, OK, f"{len(found)} without an end")]
        # Any key may have signed a buyer's token.
        return [_expiry(name, min(ends_s), crowd, advice=advice)]

    return check


def _end_of_key(key: Mapping[str, Any]) -> float | None:
    ends_s: list[float] = []
    if isinstance(key.get("exp"), int | float):
        ends_s.append(float(key["exp"]))
    for text in key.get("x5c") or ():
        pem = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
        try:
            ends_s.append(
                x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
            )
        except ValueError:
            continue
    return min(ends_s, default=None)


def _expiry(name: str, ends_s: float, crowd: Crowd, *, advice: str) -> Finding:
    # What ends in a thousand years is still a date.
    when = datetime.fromtimestamp(min(ends_s, 253_402_300_799.0), UTC).isoformat(" ", "minutes")
    if ends_s <= time.time():
        return Finding(name, FAILED, f"ended {when}", advice)
    if ends_s <= crowd.end_s:
        return Finding(name, FAILED, f"ends {when}, before the sale is over", advice)
    if ends_s <= crowd.end_s + EXPIRY_SPARE_S:
        return Finding(name, WARNING, f"ends {when}, within a week of the sale", advice)
    return Finding(name, OK, f"ends {when}")


def version_finding(name: str, found: str, *, least: tuple[int, ...]) -> Finding:
    """Return what a store's version means; `least`: the oldest that this release supports."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[: len(least)])
    wanted = ".".join(map(str, least))
    if numbers < least:
        return Finding(
            name, FAILED, f"{found} is older than {wanted}", f"upgrade to {wanted} or newer"
        )
    return Finding(name, OK, found)


async def run_all(checks: Iterable[Check], crowd: Crowd) -> list[Finding]:
    """Run the checks one after the other; one that fails is a finding, too."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += await check(crowd)
        except DependencyUnavailable as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            findings.append(
                Finding(
                    "stores", FAILED, f"{error}{cause}", "bring the store back: docs/runbook.md"
                )
            )
    return findings
