"""Opens the kind of challenge that the settings name."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from gateway.challenge.attestation import Attestation
from gateway.challenge.challenges import Challenges
from gateway.challenge.proof_of_work import ProofOfWork
from gateway.challenge.shared_spent import SharedSpentSolutions
from gateway.challenge.spent import LocalSpentSolutions, SpentSolutions
from gateway.metrics import watch_size
from gateway.risk.settings import RiskSettings
from seckill.runtime.purchase_tokens import TokenKey

if TYPE_CHECKING:
    import redis.asyncio


@asynccontextmanager
async def open_challenges(
    settings: RiskSettings,
    keys: Sequence[TokenKey],
    client: "redis.asyncio.Redis | None",
    *,
    redis_timeout_s: float,
) -> AsyncIterator[Challenges]:
    """Open challenges, and the connections to an attestation provider.

    Args:
        settings: say which kind.
        keys: of purchase tokens; secrets for challenges are derived from them, so that replicas
            know each other's.
        client: of the Redis in which all gateways remember used solutions; None is this process.
        redis_timeout_s: a slower answer of it is none.
    """
    local = LocalSpentSolutions(settings.gateway_challenge_spent_max)
    watch_size("spent_solutions", lambda: len(local))
    spent: SpentSolutions = local
    if client is not None:
        spent = SharedSpentSolutions(local, client, timeout_s=redis_timeout_s)
    if settings.gateway_challenge == "proof_of_work":
        yield Challenges(
            ProofOfWork(
                [key.secret for key in keys],
                max_number=settings.gateway_challenge_max_number,
                ttl_s=settings.gateway_challenge_ttl_s,
            ),
            spent,
        )
        return
    timeout = aiohttp.ClientTimeout(total=settings.gateway_attestation_timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Challenges(
            Attestation(
                session,
                url=settings.gateway_attestation_url,
                secret=settings.gateway_attestation_secret.get_secret_value(),
                site_key=settings.gateway_attestation_site_key,
                ttl_s=settings.gateway_challenge_ttl_s,
                is_bound=settings.gateway_attestation_bound,
                in_flight_max=settings.gateway_attestation_in_flight_max,
            ),
            spent,
        )
