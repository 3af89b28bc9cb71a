"""The crowd: simulated buyers who arrive, buy, pay or not, and come back for returned units."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from seckill.client import CallFailed, SeckillClient
from seckill.client.aio import Identity
from seckill.runtime.dev_issuer import TOKEN_TTL_S, DevIssuer
from seckill.v1 import order_pb2, sale_pb2
from seckill_cli.demo.buyer import Buyer
from seckill_cli.demo.scenario import Notes, Scenario, Tally
from seckill_cli.load.link import CrowdClient, LinkTls

CONNECTIONS = 8
POLL_S = 0.1
IN_FLIGHT_MAX = 2_000
# Share of an identity's life after which it is renewed.
RENEW_AFTER = 0.5


@asynccontextmanager
async def connect(target: str, tls: LinkTls | None = None) -> AsyncIterator[list[SeckillClient]]:
    """Open several connections, as a crowd has them."""
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        # A gateway that was killed is found again at once.
        ("grpc.max_reconnect_backoff_ms", 500),
    )
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(CrowdClient(target, tls=tls, options=options))
            for _ in range(CONNECTIONS)
        ]


def development_identity(issuer: DevIssuer, user_id: str) -> Callable[[], str]:
    """Return a function that gives the buyer's JWT, renewed long before it expires."""
    token, renew_at_s = "", 0.0

    def current() -> str:
        nonlocal token, renew_at_s
        if time.monotonic() >= renew_at_s:
            token = issuer.token(user_id)
            renew_at_s = time.monotonic() + RENEW_AFTER * TOKEN_TTL_S
        return token

    return current


class Crowd:
    """Plays the scenario against a gateway.

    Attributes:
        notes: each buyer's own.
        tally: the sum of the attempts.
    """

    def __init__(
        self,
        clients: Sequence[SeckillClient],
        *,
        identity_of: Callable[[str], Identity],
        scenario: Scenario,
        sku: str,
        price: sale_pb2.Money,
        notes: Sequence[Notes],
        tally: Tally | None = None,
    ) -> None:
        """Make a crowd; those whose notes say that they were refused wait for units.

        Args:
            clients: one for each connection.
            identity_of: gives a buyer's identity by their id.
            notes: of all buyers.
            tally: where to count.
        """
        self._clients = itertools.cycle(clients)
        self._identity_of = identity_of
        self._scenario = scenario
        self._sku = sku
        self._price = price
        self.notes = notes
        self.tally = tally or Tally()
        self._winners = 0
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        # Refused buyers who wait for units that come back, first come first.
        self._waiting = deque(buyer for buyer in notes if buyer.sold_out)

    async def arrive(self) -> float:
        """Let all buyers arrive and buy; return how many seconds that took."""
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as crowd:
            for buyer in self.notes:
                await asyncio.sleep(max(0.0, start_s + buyer.arrives_s - time.monotonic()))
                crowd.create_task(self._visit(buyer))
        return time.monotonic() - start_s

    async def wait_for_units(self, *, until_paid: int, timeout_s: float) -> None:
        """Let refused buyers buy whenever units are back, and pay, until enough are paid.

        After `timeout_s` the sale is left as it is: the verdict will say what is wrong.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.tally.paid < until_paid and self._waiting and time.monotonic() < deadline_s:
            sale = await next(self._clients).sale(self._sku, timeout_s=timeout_s)
            late = [
                self._waiting.popleft()
                for _ in range(min(sale.remaining_units, len(self._waiting)))
            ]
            for buyer in late:
                buyer.pays = True
            await self._visit_all(late)
            await asyncio.sleep(POLL_S)

    async def retry_sold_out(self, count: int) -> None:
        """Let some refused buyers try once more when all is paid, to be refused again."""
        async with asyncio.TaskGroup() as group:
            for notes in itertools.islice(self._waiting, count):
                group.create_task(self._buyer(notes).buy(self._sku))

    async def _visit_all(self, buyers: Iterable[Notes]) -> None:
        async with asyncio.TaskGroup() as group:
            for notes in buyers:
                group.create_task(self._visit(notes))

    async def _visit(self, notes: Notes) -> None:
        buyer = self._buyer(notes)
        async with self._slots:
            await buyer.buy(self._sku)
            if notes.buys_twice:
                notes.buys_twice = False
                await buyer.buy(self._sku)
        if notes.sold_out:
            self._waiting.append(notes)
        if not notes.order_no or notes.paid:
            return
        self._decide_payment(notes)
        if notes.pays:
            await self._pay(buyer, notes)

    def _buyer(self, notes: Notes) -> Buyer:
        buyer = Buyer(
            next(self._clients),
            notes.user_id,
            self._identity_of(notes.user_id),
            on_attempt=self.tally.note,
        )
        buyer.attempts = notes.attempts
        return buyer

    def _decide_payment(self, notes: Notes) -> None:
        # Of each hundred winners the first sixty pay, spread evenly: exact for any stock.
        ratio = self._scenario.pay_ratio
        before, self._winners = int(self._winners * ratio + 1e-9), self._winners + 1
        notes.pays = notes.pays or int(self._winners * ratio + 1e-9) > before

    async def _pay(self, buyer: Buyer, notes: Notes) -> None:
        try:
            await buyer.wait()
            order = await buyer.pay(self._price)
        except CallFailed as failure:
            self.tally.errors[f"payment: {failure.reason or failure.code.name}"] += 1
            return
        if order.state == order_pb2.ORDER_STATE_PAID:
            notes.paid = True
            self.tally.paid += 1
