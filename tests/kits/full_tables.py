"""Fills each of the gateway's tables with the largest keys that callers can choose.

`python -m tests.kits.full_tables JWKS TOKEN_KEYS` prints as JSON the bytes that this process holds
before and after.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

from gateway.addresses import ClientAddresses, parse_networks
from gateway.admission_ratio import TOLD_MAX, AdmissionRatio
from gateway.buckets import Buckets
from gateway.buyer_histories import KEPT_MAX, BuyerHistories
from gateway.challenge.spent import LocalSpentSolutions
from gateway.front.rest import answers
from gateway.identity import Buyer, Identity
from gateway.risk.assessor import Applicant, Assessor
from gateway.risk.facts import Standing
from gateway.risk.opening import build_assessor
from gateway.rules import SalePolicy
from gateway.settings import GatewaySettings
from gateway.sightings import WAITING_MAX, Sightings
from seckill.errors import RateLimited
from seckill.front import messages, statuses
from seckill.runtime.jwks import KeySet
from seckill.v1 import hoarding_pb2

PAGE_BYTES = 4_096
USER_ID_CHARS = 128
HEADER_BYTES = 15_000
# Of the callers so many send header fields as long as they may be: all would take minutes.
ONE_IN = 8
KINDS = ("ip", "ip_orders", "ip_callbacks", "user", "ip_issue", "issue")


def resident_bytes() -> int:
    """Memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def fill_addresses(settings: GatewaySettings) -> ClientAddresses:
    """Peers that are proxies, and those that they forward for."""
    trusted = parse_networks("2001:db8::/32")
    bound = settings.gateway_addresses_max
    addresses = ClientAddresses(trusted=trusted, exempt=(), hops_max=8, remembered_max=bound)
    for number in range(bound):
        high, low = number >> 16, number & 0xFFFF
        peer = f"ipv6:[2001:db8:ffff:ffff:ffff:ffff:{high:x}:{low:x}]:65535"
        client = f"fd00:{high:x}:{low:x}:ffff:ffff:ffff:ffff:ffff"
        claims = "x" * HEADER_BYTES if number % ONE_IN == 0 else "x"
        addresses.key(peer, f"{claims}, {client}")
        messages.timeout_s(f"{number}{claims}S".encode())
    return addresses


def fill_buckets(settings: GatewaySettings) -> list[Buckets]:
    """One of the longest user ids, or another address, for each bucket."""
    bound = settings.gateway_buckets_max
    all_buckets = [Buckets(kind, rate_per_s=1, burst=9, tracked_max=bound) for kind in KINDS]
    for number in range(bound):
        key = str(number).rjust(USER_ID_CHARS, "u")
        for buckets in all_buckets:
            buckets.take(key, number * 1e-6)
    return all_buckets


def fill_identity(settings: GatewaySettings) -> Identity:
    """Tokens with what callers write around them."""
    bound = settings.gateway_identities_max
    keys = KeySet(settings.gateway_jwks, allow_symmetric=True, reload_interval_s=300)
    identity = Identity(keys, issuer="i", audience="a", remembered_max=bound)
    for number in range(bound):
        around = b" " * (HEADER_BYTES if number % ONE_IN == 0 else 1)
        user_id = str(number).rjust(USER_ID_CHARS, "u")
        standing = Standing(number * 1e-3, 2, False, number.to_bytes(16, "big"))
        identity.remember(
            b"Bearer %d" % number + around, Buyer(user_id, number * 1e-3, standing.packed())
        )
    return identity


async def fill_risk(settings: GatewaySettings) -> tuple[Assessor, LocalSpentSolutions]:
    """Another /64, means of payment and user at each decision, and solutions that were used."""
    risk = build_assessor(settings, None)
    policy = SalePolicy(challenge_at=1, refuse_at=100)
    keys = max(settings.gateway_risk_keys_max, settings.gateway_risk_decisions_max)
    for number in range(keys):
        standing = Standing(number * 1e-3, 2, False, number.to_bytes(16, "big"))
        user_id = str(number).rjust(USER_ID_CHARS, "u")
        address = f"fd00:{number >> 16:x}:{number & 0xFFFF:x}:ffff::/64"
        applicant = Applicant(user_id, "s" * 64, address, standing)
        await risk.decide(applicant, policy, now_s=number * 1e-6, monotonic_s=number * 1e-6)
    spent = LocalSpentSolutions(settings.gateway_challenge_spent_max)
    for number in range(settings.gateway_challenge_spent_max):
        await spent.spend(number.to_bytes(16, "big"), expire_s=1e9 + number * 1e-6, now_s=0)
    return risk, spent


class _Answers:
    """Answers for order_svc, at once."""

    async def BatchGetBuyerHistories(
        self,
        request: hoarding_pb2.BatchGetBuyerHistoriesRequest,
        timeout: float,  # noqa: ASYNC109 - the contract of gRPC
    ) -> hoarding_pb2.BatchGetBuyerHistoriesResponse:
        del timeout
        histories = [hoarding_pb2.BuyerHistory() for _ in request.buyers]
        return hoarding_pb2.BatchGetBuyerHistoriesResponse(histories=histories)


async def fill_hoarding(settings: GatewaySettings) -> tuple[object, ...]:
    """Buyers who were asked about, who were told a number, and whose orders wait to be told of."""
    answers: Any = _Answers()
    histories = BuyerHistories(
        answers, window_s=1.0, kept_s=settings.gateway_history_kept_s, timeout_s=1.0
    )
    for number in range(KEPT_MAX):
        await histories.get(str(number).rjust(USER_ID_CHARS, "u"), number.to_bytes(16, "big"))
    ratio = AdmissionRatio(remaining=lambda _: None, multiple=lambda _: 0)
    for number in range(TOLD_MAX):
        ratio.note_told("s" * 64, str(number).rjust(USER_ID_CHARS, "u"))
    sightings = Sightings(answers)
    for number in range(WAITING_MAX):
        digest = number.to_bytes(16, "big")
        sightings.note(f"{number:026}", address=digest, fingerprint=digest)
    return histories, ratio, sightings


def fill_failures() -> None:
    """Encoded refusals, in both forms."""
    for number in range(statuses.FAILURES_MAX):
        error = RateLimited("user", retry_after_s=number / 100)
        statuses.trailers(error)
        answers.failure(error)


def main(jwks: str, token_keys: str) -> None:
    """Measure."""
    settings = GatewaySettings(
        profile="development",
        gateway_jwks=jwks,
        gateway_jwt_issuer="https://issuer.example",
        gateway_token_keys=token_keys,  # type: ignore[arg-type]
    )
    before = resident_bytes()
    tables = (
        fill_addresses(settings),
        fill_buckets(settings),
        fill_identity(settings),
        asyncio.run(fill_risk(settings)),
        asyncio.run(fill_hoarding(settings)),
    )
    fill_failures()
    sys.stdout.write(json.dumps({"before": before, "full": resident_bytes()}))
    del tables


if __name__ == "__main__":
    main(*sys.argv[1:])
