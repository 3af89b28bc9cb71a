"""Attestations are verified at a provider over HTTP, here one of our own that answers by script."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.challenge.attestation import ANSWER_BYTES_MAX, Attestation
from gateway.challenge.port import SolutionRefused, binding
from seckill.client import SeckillClient, StateConflict
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.v1 import challenge_pb2, gate_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import open_rig

NOW_S = 1_800_000_000.0
USER, SKU, ADDRESS = "u-1", "phone", "192.0.2.1"


@dataclass
class Provider:
    """Answers siteverify.

    Attributes:
        answer: what it says: JSON, or bytes as they are.
        status: its HTTP status.
        forms: what it was sent.
        open: cleared by a test to hold the answer back.
    """

    answer: object = None
    status: int = 200
    forms: list[dict[str, str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.forms.append({key: str(value) for key, value in (await request.post()).items()})
        self.asked.set()
        await self.open.wait()
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(status=self.status, body=body)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider that says that all is well."""
    made = Provider({"success": True, "cdata": binding(USER, SKU)})
    made.open.set()
    application = web.Application()
    application.router.add_post("/siteverify", made.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/siteverify"
    yield made
    made.open.set()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to the provider; a call may take a fifth of a second."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as opened:
        yield opened


def attestation(provider: Provider, session: aiohttp.ClientSession, **changes: Any) -> Attestation:
    """The adapter as the settings make it."""
    values: dict[str, Any] = {
        "url": provider.url,
        "secret": "our-secret",
        "site_key": "our-site",
        "ttl_s": 60.0,
        "is_bound": True,
        "in_flight_max": 10,
    }
    return Attestation(session, **(values | changes))


async def check(adapter: Attestation, solution: str = "token", address: str = ADDRESS) -> bytes:
    """Check a solution; return its name."""
    solved = await adapter.check(solution, user_id=USER, sku=SKU, address=address, now_s=NOW_S)
    return solved.name


async def test_a_token_that_the_provider_confirms_counts(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """It is asked with our secret, the token and the address; another token has another name."""
    adapter = attestation(provider, session)
    assert await check(adapter) == await check(adapter) != await check(adapter, "other")
    form = {"secret": "our-secret", "response": "token", "remoteip": ADDRESS}
    assert provider.forms[0] == form
    await check(adapter, address="2001:db8::/64")
    del form["remoteip"]
    assert provider.forms[-1] == form


async def test_a_challenge_tells_the_page_what_the_widget_needs(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """The site's key, and the customer data that tie the token to the buyer and the sku."""
    challenge = attestation(provider, session).challenge(USER, SKU, now_s=NOW_S)
    assert challenge.kind == challenge_pb2.CHALLENGE_KIND_ATTESTATION
    assert challenge.site_key == "our-site"
    assert challenge.challenge == binding(USER, SKU) != binding(USER, SKU + "s")
    assert challenge.expire_time.seconds == NOW_S + 60


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"success": False, "error-codes": ["timeout-or-duplicate"]}, "expired"),
        ({"success": False, "error-codes": ["invalid-input-response"]}, "wrong"),
        ({"success": False}, "wrong"),
        ({"success": "true", "cdata": binding(USER, SKU)}, "wrong"),
        ({"success": True, "cdata": binding("u-2", SKU)}, "foreign"),
        ({"success": True}, "foreign"),
    ],
)
async def test_a_token_that_proves_nothing_is_refused(
    provider: Provider, session: aiohttp.ClientSession, answer: object, problem: str
) -> None:
    """Also one that was solved for another buyer."""
    provider.answer = answer
    with pytest.raises(SolutionRefused) as refused:
        await check(attestation(provider, session))
    assert refused.value.problem == problem


async def test_a_provider_without_customer_data_needs_a_setting(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """Then its yes is enough."""
    provider.answer = {"success": True}
    assert await check(attestation(provider, session, is_bound=False))


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"[" * 5_000),
        (200, b'"' + b"x" * ANSWER_BYTES_MAX + b'"'),
        (500, {"error": "down"}),
        (302, b""),
        (200, {"success": False, "error-codes": ["invalid-input-secret"]}),
        (200, {"success": False, "error-codes": [{"code": 7}, 5]}),
    ],
)
async def test_a_provider_that_does_not_answer_lets_nobody_pass(
    provider: Provider, session: aiohttp.ClientSession, status: int, answer: object
) -> None:
    """The caller is asked to try again; it is no fault of theirs, nor of ours."""
    provider.status, provider.answer = status, answer
    with pytest.raises(DependencyUnavailable):
        await check(attestation(provider, session))


async def test_a_slow_provider_is_given_up(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """After the timeout; meanwhile only so many callers wait for it."""
    provider.open.clear()
    adapter = attestation(provider, session, in_flight_max=1)
    waiting = asyncio.create_task(check(adapter))
    await asyncio.wait_for(provider.asked.wait(), 5)
    with pytest.raises(Overloaded):
        await check(adapter)
    with pytest.raises(DependencyUnavailable):
        await waiting
    provider.open.set()
    assert await check(adapter)


async def test_no_provider_at_all_is_the_same(session: aiohttp.ClientSession) -> None:
    """Nobody listens there."""
    with pytest.raises(DependencyUnavailable):
        await check(attestation(Provider(url="http://127.0.0.1:9/siteverify"), session))


async def test_a_buyer_with_an_attestation_buys(provider: Provider, tmp_path: Path) -> None:
    """The client's hook has the token, and the provider's word counts."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack,
            tmp_path,
            "http2",
            gateway_challenge="attestation",
            gateway_attestation_url=provider.url,
            gateway_attestation_secret="our-secret",
            gateway_attestation_site_key="our-site",
            gateway_risk_required_claims="adult",
        )
        sku = rig.services.inventory.put(sale_terms())
        rig.services.rules.policies[sku] = gate_pb2.SalePolicy(sku=sku, challenge_at=50)
        await rig.rule()
        user = new_id("user")
        provider.answer = {"success": True, "cdata": binding(user, sku)}
        given: list[challenge_pb2.Challenge] = []

        async def solver(challenge: challenge_pb2.Challenge) -> str:
            given.append(challenge)
            return "token-of-the-widget"

        async with SeckillClient(
            f"127.0.0.1:{rig.gateway.port}", identity=rig.issuer.token(user), solver=solver
        ) as client:
            assert (await client.buy(sku, timeout_s=10)).reserved
            # The same token once more is refused, though the provider here would confirm it.
            with pytest.raises(StateConflict) as refused:
                await client.buy(sku, timeout_s=10)
        assert refused.value.metadata["problem"] == "spent"
        assert given[0].site_key == "our-site"
        assert provider.forms[0]["response"] == "token-of-the-widget"
