"""Simulated buyers of one sale, and the history of what they saw."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import grpc

from seckill.client import SeckillClient
from seckill_cli.demo.buyer import Attempt, Buyer
from tests.kits.doors import DoorClient, InventoryDoor
from tests.kits.factories import new_id
from tests.kits.faults.cluster import CHANNEL_OPTIONS, Cluster
from tests.kits.faults.history import History

CALL_S = 2.0
PATIENCE_S = 40.0


class Buyers:
    """Make attempts in one sale; the history has a note of each."""

    def __init__(
        self,
        client: SeckillClient,
        sku: str,
        *,
        identity_of: Callable[[str], str] = str,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """
        Args:
            client: whose door the buyers use.
            identity_of: user id → what identifies this buyer at that door.
            patience_s: how long a buyer repeats an attempt that was not answered.
        """
        self.history = History()
        self._client = client
        self._sku = sku
        self._identity_of = identity_of
        self._patience_s = patience_s

    async def attempt(
        self, user_id: str = "", *, request_id: str = "", timeout_s: float = CALL_S
    ) -> Attempt:
        """Make one attempt that is not repeated, as a new buyer unless `user_id` names one."""
        return await self._buy(user_id, request_id, call_timeout_s=timeout_s, patience_s=0.0)

    async def buy(self, user_id: str = "", *, request_id: str = "") -> Attempt:
        """Repeat one attempt until it is answered or patience ends."""
        return await self._buy(
            user_id, request_id, call_timeout_s=CALL_S, patience_s=self._patience_s
        )

    async def _buy(
        self, user_id: str, request_id: str, *, call_timeout_s: float, patience_s: float
    ) -> Attempt:
        user_id = user_id or new_id("buyer")
        buyer = Buyer(
            self._client,
            user_id,
            self._identity_of(user_id),
            patience_s=patience_s,
            call_timeout_s=call_timeout_s,
            on_attempt=self.history.note,
            on_call=self.history.note_call,
        )
        return await buyer.buy(self._sku, request_id=request_id)

    async def arrive(
        self, count: int, *, every_s: float = 0.0, users: Iterable[str] = ()
    ) -> list[Attempt]:
        """Let `count` buyers buy, one starting each `every_s` seconds; return their attempts."""
        names = list(users) or [new_id("buyer") for _ in range(count)]
        async with asyncio.TaskGroup() as crowd:
            tasks = []
            for name in names:
                tasks.append(crowd.create_task(self.buy(name)))
                await asyncio.sleep(every_s)
        return [task.result() for task in tasks]


def at_inventory(
    channels: Iterable[grpc.aio.Channel], sku: str, *, patience_s: float = PATIENCE_S
) -> Buyers:
    """Return buyers who buy at replicas of InventoryService."""
    client = DoorClient(InventoryDoor(list(channels)))
    return Buyers(client, sku, patience_s=patience_s)


@asynccontextmanager
async def at_gateway(cluster: Cluster, sku: str) -> AsyncIterator[Buyers]:
    """Open a connection to the cluster's gateway, and return buyers who use it."""
    async with SeckillClient(cluster.address("gateway"), options=CHANNEL_OPTIONS) as client:
        yield Buyers(client, sku, identity_of=cluster.issuer.token)
