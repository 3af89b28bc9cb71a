"""Attestation: a provider's widget looks at the buyer's browser, the provider tells us what it saw.

The call is the one that Turnstile has (siteverify), and that reCAPTCHA and hCaptcha have too: POST
of `secret`, `response` and `remoteip` as a form; the answer is JSON with `success`.
https://developers.cloudflare.com/turnstile/get-started/server-side-validation/
"""

import hashlib
import json
from typing import Any

import aiohttp
import structlog

from gateway.challenge.port import Problem, SolutionRefused, Solved, binding
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.v1 import challenge_pb2

log = structlog.get_logger()

NAME_BYTES = 16
ANSWER_BYTES_MAX = 64 * 1024
# How long a provider's token is good for; it takes each token once itself.
TOKEN_LIFE_S = 300.0
OK = 200
# Of `error-codes`: what is wrong with the caller's token; all others are ours or the provider's.
_PROBLEMS: dict[str, Problem] = {
    "missing-input-response": "wrong",
    "invalid-input-response": "wrong",
    "timeout-or-duplicate": "expired",
}


class Attestation:
    """Checks a provider's tokens."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        secret: str,
        site_key: str,
        ttl_s: float,
        is_bound: bool,
        in_flight_max: int,
    ) -> None:
        """
        Args:
            session: with the timeout of a call.
            url: where tokens are verified.
            secret: ours at the provider.
            site_key: what the page gives the widget.
            ttl_s: how long a challenge may be solved; the provider's tokens have their own life.
            is_bound: the answer must repeat our binding as `cdata`, as Turnstile's does.
            in_flight_max: calls to the provider at once.
        """
        self._session = session
        self._url = url
        self._secret = secret
        self._site_key = site_key
        self._ttl_s = ttl_s
        self._is_bound = is_bound
        self._in_flight_max = in_flight_max
        self._in_flight = 0

    def challenge(self, user_id: str, sku: str, *, now_s: float) -> challenge_pb2.Challenge:
        """Return what the page gives the widget."""
        challenge = challenge_pb2.Challenge(
            kind=challenge_pb2.CHALLENGE_KIND_ATTESTATION,
            challenge=binding(user_id, sku),
            site_key=self._site_key,
        )
        challenge.expire_time.FromSeconds(int(now_s + self._ttl_s))
        return challenge

    async def check(
        self, solution: str, *, user_id: str, sku: str, address: str, now_s: float
    ) -> Solved:
        """Ask the provider; see Challenger.check."""
        if self._in_flight >= self._in_flight_max:
            raise Overloaded("too many attestations are being verified")
        form = {"secret": self._secret, "response": solution}
        # Of an IPv6 address we have the prefix alone.
        if address and "/" not in address:
            form["remoteip"] = address
        self._in_flight += 1
        try:
            answer = await self._ask(form)
        finally:
            self._in_flight -= 1
        if answer.get("success") is not True:
            raise SolutionRefused(_problem_of(answer))
        if self._is_bound and answer.get("cdata") != binding(user_id, sku):
            raise SolutionRefused("foreign")
        name = hashlib.sha256(solution.encode()).digest()[:NAME_BYTES]
        return Solved(name, now_s + TOKEN_LIFE_S)

    async def _ask(self, form: dict[str, str]) -> dict[str, Any]:
        """Return the provider's answer; raises DependencyUnavailable."""
        try:
            async with self._session.post(self._url, data=form, allow_redirects=False) as response:
                status = response.status
                answer: Any = json.loads(await _read(response.content))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise _unavailable() from error
        if not isinstance(answer, dict) or (status != OK and "success" not in answer):
            raise _unavailable()
        return answer


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return a whole body; raises ValueError if it is too long."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError(f"the body has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _problem_of(answer: dict[str, Any]) -> Problem:
    """Return what is wrong with the caller's token; raises DependencyUnavailable if nothing is."""
    codes = answer.get("error-codes")
    codes = codes if isinstance(codes, list) else []
    for code in codes:
        if isinstance(code, str) and code in _PROBLEMS:
            return _PROBLEMS[code]
    if codes:
        # E.g. our secret is wrong: no caller can solve that.
        log.error("attestation cannot be verified", codes=[str(code)[:64] for code in codes[:8]])
        raise _unavailable()
    return "wrong"


def _unavailable() -> DependencyUnavailable:
    return DependencyUnavailable(
        "the attestation provider does not answer", metadata={"service": "attestation"}
    )
