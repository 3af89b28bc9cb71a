"""One honest buyer after the other, and how long each waits for a token and the purchase."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import grpc

from seckill.client.transport import authorization
from seckill.runtime.dev_issuer import DevIssuer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc

BUYERS_PER_S = 50.0
DEADLINE_S = 2.0


@dataclass
class Waits:
    """What buyers felt.

    Attributes:
        answered_s: seconds from the first call to the answer of the purchase, if there was one.
        failed: purchases that ended otherwise, by status code.
    """

    answered_s: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    def percentile_ms(self, share: float) -> float:
        """Return a percentile in milliseconds; a failed purchase has waited its whole deadline."""
        waits = sorted([*self.answered_s, *[DEADLINE_S] * sum(self.failed.values())])
        return 1_000 * waits[min(len(waits) - 1, int(share * len(waits)))]


async def buy(address: str, sku: str, issuer: DevIssuer, *, seconds: float) -> Waits:
    """Let buyers come at a steady pace, an open loop, and return what they felt."""
    waits = Waits()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        await channel.channel_ready()
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * BUYERS_PER_S)):
                due_s = start_s + number / BUYERS_PER_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                group.create_task(_buy_one(stub, sku, issuer, waits))
    return waits


async def _buy_one(
    stub: "gateway_pb2_grpc.GatewayServiceAsyncStub", sku: str, issuer: DevIssuer, waits: Waits
) -> None:
    metadata = (authorization(issuer.token(uuid.uuid4().hex)),)
    start_s = time.monotonic()
    try:
        issued = await stub.IssuePurchaseToken(
            gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=metadata, timeout=DEADLINE_S
        )
        await stub.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku,
                quantity=1,
                request_id=uuid.uuid4().hex,
                purchase_token=issued.purchase_token,
            ),
            metadata=metadata,
            timeout=DEADLINE_S,
        )
    except grpc.aio.AioRpcError as error:
        name = error.code().name
        waits.failed[name] = waits.failed.get(name, 0) + 1
    else:
        waits.answered_s.append(time.monotonic() - start_s)
