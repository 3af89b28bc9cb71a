"""Waves: many calls written at once, so that the mesh works in full batches.

What a stage takes for each call then is what it takes when it is saturated, although the generator
is slower than the mesh: its calls are made beforehand, and its answers read later.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from seckill.client.transport import authorization
from seckill_cli import mesh
from seckill_cli.load.link import Link, LinkError
from seckill_cli.preflight.crowd import (
    files_of,
    link_to,
    outcome_of,
    purchase_request,
    reason_of,
    token_request,
)
from seckill_cli.preflight.model import ISSUE, ORDER, REFUSE, RESERVE
from seckill_cli.preflight.replicas import Replica
from seckill_cli.preflight.usage import Meter

# Calls on one connection: as many as the gateway takes at once (SECKILL_GATEWAY_STREAMS_MAX).
CALLS_OF_LINK = 250
TIMEOUT_S = 10.0
# Within which the gateways hear that a sale is sold out.
NOTICE_S = 0.5
Metadata = tuple[tuple[str, str], ...]


@dataclass
class Costs:
    """What the kinds of work took.

    Attributes:
        cpu_s: kind → stage → seconds of CPU.
        counts: kind → how many there were of it.
        failures: calls that failed, by reason.
    """

    cpu_s: dict[str, Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, count: int, used_s: dict[str, float]) -> None:
        """Note what `count` of a kind took."""
        self.counts[kind] += count
        self.cpu_s.setdefault(kind, Counter()).update(used_s)

    def of_stage(self, stage: str) -> dict[str, float]:
        """Return kind → seconds of CPU for one, of a stage."""
        return {
            kind: used[stage] / self.counts[kind]
            for kind, used in self.cpu_s.items()
            if self.counts[kind]
        }


class Waves:
    """Sends waves to the gateways."""

    def __init__(self, gateways: Sequence[Replica], meter: Meter, *, size: int) -> None:
        """`size`: calls in a wave."""
        self._meter = meter
        tls = files_of(mesh.security_of(gateways[0].address))
        count = max(len(gateways), -(-size // CALLS_OF_LINK))
        self._links: list[Link] = [
            link_to(gateways[number % len(gateways)], tls) for number in range(count)
        ]

    async def connect(self) -> None:
        """Open all connections; raises LinkError."""
        await asyncio.gather(*(link.connect() for link in self._links))

    def close(self) -> None:
        """Hang up."""
        for link in self._links:
            link.close()

    async def buy(self, tokens: Sequence[str], sku: str, costs: Costs) -> Counter[str]:
        """Let these buyers buy in one wave, a token and one unit each; return the outcomes."""
        who: list[Metadata] = [(authorization(token),) for token in tokens]
        ask = token_request(sku)
        issued = await self._send("IssuePurchaseToken", [(ask, one) for one in who], costs, ISSUE)
        purchases = [
            (purchase_request(sku, answer), one)
            for answer, one in zip(issued, who, strict=True)
            if isinstance(answer, bytes)
        ]
        before = await self._meter.read()
        answers = await self._exchange("Purchase", purchases, costs)
        used_s = self._meter.used_s(before, await self._meter.read())
        outcomes = Counter(outcome_of(one) for one in answers if isinstance(one, bytes))
        kind = RESERVE if outcomes["RESERVED"] * 2 > len(purchases) else REFUSE
        costs.note(kind, outcomes.total(), used_s)
        return outcomes

    async def until_sold_out(self, tokens: Sequence[str], sku: str, *, tries: int) -> None:
        """Buy again until the gateways refuse by themselves: sold out, and nobody asked."""
        costs = Costs()
        for _ in range(tries):
            outcomes = await self.buy(tokens, sku, costs)
            if outcomes["SOLD_OUT"] or outcomes["ALREADY_PURCHASED"]:
                await asyncio.sleep(NOTICE_S)
                return
            await asyncio.sleep(NOTICE_S)

    async def _send(
        self, method: str, calls: Sequence[tuple[bytes, Metadata]], costs: Costs, kind: str
    ) -> list[bytes | LinkError]:
        before = await self._meter.read()
        answers = await self._exchange(method, calls, costs)
        used_s = self._meter.used_s(before, await self._meter.read())
        costs.note(kind, sum(isinstance(one, bytes) for one in answers), used_s)
        return answers

    async def _exchange(
        self, method: str, calls: Sequence[tuple[bytes, Metadata]], costs: Costs
    ) -> list[bytes | LinkError]:
        """Make the calls over all connections; return what came of each, in their order."""
        count = len(self._links)
        parts = await asyncio.gather(
            *(
                link.call_together(method, calls[number::count], TIMEOUT_S)
                for number, link in enumerate(self._links)
            )
        )
        answers: list[bytes | LinkError] = [b""] * len(calls)
        for number, part in enumerate(parts):
            answers[number::count] = part
        costs.failures.update(reason_of(one) for one in answers if isinstance(one, LinkError))
        return answers


def order_cost(costs: Costs, orders: int, used_s: dict[str, float]) -> None:
    """Note what the way from reservations to orders took after the last answer."""
    costs.note(ORDER, orders, used_s)
