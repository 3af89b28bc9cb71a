"""Two replicas of each service, and callers who count what a restart of one costs them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from seckill.client.errors import call_failed
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.factories import new_id
from tests.kits.faults.cluster import Cluster
from tests.kits.waiting import Signal

# In the order in which a rollout restarts them.
SERVICES = ("order", "inventory", "rollback", "gateway")
CALL_S = 10.0
# What any gRPC client may be given: some tries after UNAVAILABLE, and patience while there is no
# connection. https://grpc.io/docs/guides/retry/
STANDARD_RETRY = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def replicas(service: str) -> tuple[str, str]:
    """Return the names of a service's two replicas."""
    return service, f"{service}/b"


def target(cluster: Cluster, service: str) -> str:
    """Return the gRPC target of both replicas, as a name would resolve to them."""
    return "ipv4:" + ",".join(map(cluster.address, replicas(service)))


def targets(cluster: Cluster) -> dict[str, str]:
    """Return the settings with which services find both replicas of each other."""
    return {f"{service}_target": target(cluster, service) for service in SERVICES}


async def start_pairs(cluster: Cluster, **settings: str) -> None:
    """Start two replicas of each service."""
    names = [name for service in SERVICES for name in replicas(service)]
    await cluster.start(*names, **targets(cluster), **settings)


def retrying_channel(address: str) -> grpc.aio.Channel:
    """Open a channel with the standard retry policy, and nothing of our client."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config", json.dumps(STANDARD_RETRY)),
        ],
    )


@dataclass
class Tally:
    """What callers saw.

    Attributes:
        answered: calls with an answer.
        failed: calls that failed in spite of the policy, by what was said.
        longest_s: the longest wait for an answer, and the method.
        reserved: order number → buyer, of each reservation.
        ends: how watches ended: status and reason, and whether a pause was named.
        gaps_s: between the end of a watch and the first message of the next one.
        changed: notified of each answer.
    """

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    longest_s: tuple[float, str] = (0.0, "")
    reserved: dict[str, str] = field(default_factory=dict, repr=False)
    ends: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    gaps_s: list[float] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal, repr=False)

    def note(self, method: str, since_s: float, error: grpc.aio.AioRpcError | None) -> None:
        """Note a call that has ended."""
        if error is None:
            self.answered += 1
            self.longest_s = max(self.longest_s, (time.monotonic() - since_s, method))
        else:
            self.failed[f"{method}: {error.code().name}: {error.details()}"] += 1
        self.changed.notify()

    async def until_answered(self, more: int) -> None:
        """Wait until so many further calls were answered or failed."""
        least = self.answered + self.failed.total() + more
        await self.changed.until(
            lambda: self.answered + self.failed.total() >= least, timeout_s=60.0
        )


class RetryingBuyers:
    """Buyers over one channel, who see each call once, after the policy's tries."""

    def __init__(self, cluster: Cluster, channel: grpc.aio.Channel, sku: str) -> None:
        """`channel`: of `retrying_channel`."""
        self.tally = Tally()
        self._cluster = cluster
        self._stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._sku = sku

    async def _call(self, method: str, request: object, identity: Mapping[str, str]) -> object:
        since_s = time.monotonic()
        call = getattr(self._stub, method)
        try:
            answer: object = await call(request, metadata=tuple(identity.items()), timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            self.tally.note(method, since_s, error)
            return None
        self.tally.note(method, since_s, None)
        return answer

    async def keep_buying(self, *, every_s: float) -> None:
        """Buy as one new buyer after the other, and read each order; until cancelled."""
        while True:
            buyer = new_id("buyer")
            identity = {"authorization": f"Bearer {self._cluster.issuer.token(buyer)}"}
            token = await self._call(
                "IssuePurchaseToken",
                gateway_pb2.IssuePurchaseTokenRequest(sku=self._sku),
                identity,
            )
            if isinstance(token, gateway_pb2.IssuePurchaseTokenResponse):
                request = gateway_pb2.PurchaseRequest(
                    sku=self._sku,
                    quantity=1,
                    request_id=new_id("request"),
                    purchase_token=token.purchase_token,
                )
                answer = await self._call("Purchase", request, identity)
                if isinstance(answer, gateway_pb2.PurchaseResponse) and answer.order_no:
                    assert answer.order_no not in self.tally.reserved
                    self.tally.reserved[answer.order_no] = buyer
            sale = gateway_pb2.GatewayServiceGetSaleRequest(sku=self._sku)
            await self._call("GetSale", sale, identity)
            await asyncio.sleep(every_s)

    async def keep_watching(self, order_no: str, buyer: str) -> None:
        """Watch an order, and watch it again whenever that ends; until cancelled."""
        identity = (("authorization", f"Bearer {self._cluster.issuer.token(buyer)}"),)
        request = gateway_pb2.GatewayServiceWatchOrderRequest(order_no=order_no)
        ended_s: float | None = None
        while True:
            try:
                async for _ in self._stub.WatchOrder(request, metadata=identity):
                    if ended_s is not None:
                        self.tally.gaps_s.append(time.monotonic() - ended_s)
                        ended_s = None
                end = ("OK", "", False)
                pause_s = 0.0
            except grpc.aio.AioRpcError as error:
                failure = call_failed(
                    error.code(), error.details() or "", dict(error.trailing_metadata() or ())
                )
                end = (error.code().name, failure.reason, failure.retry_after_s is not None)
                pause_s = failure.retry_after_s or 0.0
            ended_s = ended_s or time.monotonic()
            self.tally.ends[end] += 1
            await asyncio.sleep(pause_s)
