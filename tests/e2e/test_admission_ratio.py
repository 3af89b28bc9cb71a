"""The admission ratio in front of a real inventory: few are let through, and every unit is sold."""

import asyncio
from collections import Counter
from functools import partial

import grpc

from seckill.status import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2
from tests.kits.actions import CALL_S, Gateway, open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import details
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

UNITS, MULTIPLE, BATCH, BUYERS = 100, 2, 32, 1_000
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
WAIT = "ADMISSION_FULL"
# What a busy machine may say while inventory stands still.
BUSY = "OVERLOADED"
# A thousand calls of one process, on whatever machine.
PATIENCE_S = 60.0


class Crowd:
    """Buyers of one sku, each with one request id."""

    def __init__(self, gateway: Gateway, mesh: Mesh, sku: str, tokens: dict[str, str]) -> None:
        self._gateway = gateway
        self._sku = sku
        self._tokens = tokens
        self.users = list(tokens)
        self._identities = {user: mesh.identity(user) for user in tokens}
        # Latest answer of each: an outcome, or the reason of a failure.
        self.answers: dict[str, int | str] = {}
        self.orders: dict[str, str] = {}
        self.pauses_s: list[float] = []

    async def attempt(self, user: str) -> int | str:
        """Make this buyer's attempt, again if it was made before."""
        request = gateway_pb2.PurchaseRequest(
            sku=self._sku, purchase_token=self._tokens[user], request_id=f"request-{user}"
        )
        try:
            answer = await self._gateway.Purchase(
                request, metadata=self._identities[user], timeout=PATIENCE_S
            )
        except grpc.aio.AioRpcError as error:
            self.answers[user] = reason_of(error) or error.code().name
            retry = details(error).get("RetryInfo")
            if retry is not None and self.answers[user] == WAIT:
                self.pauses_s.append(retry.retry_delay.ToNanoseconds() / 1e9)
        else:
            self.answers[user] = answer.outcome
            self.orders[user] = answer.order_no
        return self.answers[user]

    async def count(self) -> int:
        """Buyers who have been answered."""
        return len(self.answers)

    async def is_told(self, user: str, answer: int | str) -> bool:
        """Whether this buyer's next attempt is answered so."""
        return await self.attempt(user) == answer

    def those(self, answer: int | str) -> list[str]:
        """Buyers whose latest answer this is."""
        return [user for user, latest in self.answers.items() if latest == answer]


async def crowd_of(gateway: Gateway, mesh: Mesh, sku: str, buyers: int) -> Crowd:
    """Buyers with tokens."""
    users = [new_id("buyer") for _ in range(buyers)]

    async def token(user: str) -> str:
        answer = await gateway.IssuePurchaseToken(
            gateway_pb2.IssuePurchaseTokenRequest(sku=sku),
            metadata=mesh.identity(user),
            timeout=PATIENCE_S,
        )
        return answer.purchase_token

    tokens = await asyncio.gather(*map(token, users))
    return Crowd(gateway, mesh, sku, dict(zip(users, tokens, strict=True)))


def decided(mesh: Mesh) -> int:
    """Attempts that inventory has decided."""
    lines = mesh.metrics("inventory").splitlines()
    return int(
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("seckill_reserve_attempts_total{")
        )
    )


async def test_a_crowd_is_held_back_and_all_units_are_sold(gate_mesh: Mesh) -> None:
    """1,000 at once for 100 units: twice as many reach inventory; what comes back is sold too."""
    sku = await open_sale(gate_mesh, sale_terms(units=UNITS))
    async with gate_mesh.channel("gateway") as channel:
        gateway: Gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        crowd = await crowd_of(gateway, gate_mesh, sku, BUYERS)
        before = decided(gate_mesh)
        # While inventory stands still nothing is answered but those who are held back.
        gate_mesh.freeze("inventory")
        attempts = asyncio.gather(*map(crowd.attempt, crowd.users))
        try:
            await eventually(crowd.count, lambda count: count >= BUYERS - MULTIPLE * UNITS)
        finally:
            gate_mesh.thaw("inventory")
        assert {WAIT} <= set(crowd.answers.values()) <= {WAIT, BUSY}
        # In their own time, and not all at the same.
        assert min(crowd.pauses_s) >= 0.25
        assert len(set(crowd.pauses_s)) > 5
        await attempts
        told = Counter(crowd.answers.values())
        assert told[RESERVED] == UNITS
        assert set(told) <= {RESERVED, SOLD_OUT, WAIT, BUSY}, told
        assert decided(gate_mesh) - before == told[RESERVED] + told[SOLD_OUT] <= MULTIPLE * UNITS

        # The others hear how it ended, without asking inventory for more than a batch.
        held_back = [*crowd.those(WAIT), *crowd.those(BUSY)]
        await eventually(partial(crowd.is_told, held_back[0], SOLD_OUT))
        await asyncio.gather(*map(crowd.attempt, held_back))
        assert set(map(crowd.answers.get, held_back)) == {SOLD_OUT}
        assert decided(gate_mesh) - before <= MULTIPLE * UNITS + BATCH

        # A buyer who has a unit and repeats hears of it.
        winner = crowd.those(RESERVED)[0]
        number = crowd.orders[winner]
        assert (await crowd.attempt(winner), crowd.orders[winner]) == (RESERVED, number)

        returned = crowd.those(RESERVED)[1:4]
        for user in returned:
            await eventually(partial(_cancelled, gateway, gate_mesh, crowd, user))
        for user in held_back[:3]:
            await eventually(partial(crowd.is_told, user, RESERVED))
        assert await crowd.attempt(held_back[3]) == SOLD_OUT


async def _cancelled(gateway: Gateway, mesh: Mesh, crowd: Crowd, user: str) -> bool:
    request = gateway_pb2.GatewayServiceCancelOrderRequest(order_no=crowd.orders[user])
    try:
        await gateway.CancelOrder(request, metadata=mesh.identity(user), timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        # It is on its way to the database.
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True
