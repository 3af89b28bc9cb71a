"""Confirms again and again that the Redis we are connected to may promise units."""

import asyncio
import math
from typing import TYPE_CHECKING

import grpc
import structlog

from inventory_svc import metrics
from inventory_svc.fence.discarded import DiscardedSales
from inventory_svc.fence.lease import StoreLease
from inventory_svc.fence.store import Keeper, StoreIdentity
from inventory_svc.sales.registry import order_faults
from seckill.errors import DependencyUnavailable, RemoteError, SeckillError
from seckill.runtime.clock import Clock
from seckill.v1 import order_pb2

if TYPE_CHECKING:
    from seckill.v1 import order_pb2_grpc

# Confirmations in the time of a lease: some may fail before it is over.
CONFIRMATIONS = 6
# Confirmations in a row without an answer, after which a store is used whose lease is over or that
# was never confirmed: the order service is away, not we.
UNANSWERED_MAX = 10
# The part of a lease after which a question counts as not answered; a late answer counts too. What
# is left of the lease is for the questions before, and for a busy event loop.
PATIENCE = 2 / 3
# How long an answer is awaited at all, and how many questions may await one.
ANSWER_TIMEOUT_S = 10.0
IN_FLIGHT_MAX = 20
log = structlog.get_logger()


class StoreFence:
    """Keeps the lease. While it is over nothing is promised, and the service is not ready."""

    def __init__(
        self,
        keeper: Keeper,
        orders: "order_pb2_grpc.OrderServiceAsyncStub",
        lease: StoreLease,
        discarded: DiscardedSales,
        *,
        clock: Clock,
        lease_s: float,
    ) -> None:
        """Describe it.

        Args:
            keeper: of the server that is confirmed.
            orders: where the store is confirmed.
            discarded: told of the sales that were discarded as stale.
            lease_s: how long a confirmation holds, from when it was asked for.
        """
        self._keeper = keeper
        self._orders = orders
        self._lease = lease
        self._discarded = discarded
        self._clock = clock
        self._lease_s = lease_s
        # Run id of the server that another one has superseded.
        self._superseded = ""
        self._unanswered = 0
        # When the question was asked that was answered last.
        self._answered_s = -math.inf
        self._generation = 0
        self._problem = "no store is confirmed yet"

    @property
    def problem(self) -> str:
        """What keeps units from being promised; "" if nothing does."""
        return "" if self._lease.holds else self._problem

    async def check(self) -> None:
        """Raise DependencyUnavailable while nothing may be promised."""
        if problem := self.problem:
            raise DependencyUnavailable(problem)

    async def run(self) -> None:
        """Confirm until cancelled."""
        asked: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                # A slow answer must not delay the next question: the lease would be over.
                if len(asked) < IN_FLIGHT_MAX:
                    task = group.create_task(self._confirm_or_say(), name="store-confirmation")
                    asked.add(task)
                    task.add_done_callback(asked.discard)
                self._show()
                await asyncio.sleep(self._lease_s / CONFIRMATIONS)

    def _show(self) -> None:
        # Those of a cluster are shown together by its fence.
        if not self._keeper.named:
            metrics.STORE_FENCED.set(not self._lease.holds)

    async def _confirm_or_say(self) -> None:
        try:
            await self.run_once()
        except SeckillError as error:
            self._say(f"the store cannot be asked: {error}")

    async def run_once(self) -> None:
        """Confirm once.

        Raises:
            DependencyUnavailable: Redis does not answer, or has become another one meanwhile.
        """
        store = await self._keeper.read()
        if store is None:
            self._say("redis does not tell which server it is: a stale one is not noticed")
            self._lease.open()
            return
        if not store.primary:
            self._say("redis is a replica")
            self._lease.withdraw()
            return
        asked_s = self._clock.monotonic_s()
        answer = await self._ask(store)
        # Questions may overtake each other.
        if answer is None or asked_s < self._answered_s:
            return
        self._answered_s = asked_s
        self._unanswered = 0
        if answer.standing == order_pb2.STORE_STANDING_FOREIGN:
            self._lease.withdraw()
            self._say(f"this redis belongs to another mesh ({store.mesh_id}): use one of your own")
        elif answer.standing != order_pb2.STORE_STANDING_CURRENT:
            self._leave(store, answer.generation)
        elif (answer.token, answer.mesh_id) != (store.token, store.mesh_id):
            await self._keep(store, answer)
        else:
            self._grant(store, answer, asked_s=asked_s)

    async def _ask(self, store: StoreIdentity) -> order_pb2.ConfirmStoreResponse | None:
        """Return the answer of the order service, also a late one; None without one."""
        question = asyncio.create_task(self._confirm(store))
        try:
            done, _ = await asyncio.wait([question], timeout=self._lease_s * PATIENCE)
            if not done:
                self._go_on(store, "the order service does not answer")
            return await question
        except SeckillError as error:
            if isinstance(error, RemoteError) and error.code is grpc.StatusCode.UNIMPLEMENTED:
                self._say("the order service is of an older release: a stale store is not noticed")
                self._lease.open()
            elif done:
                self._go_on(store, str(error))
            return None
        finally:
            question.cancel()

    async def _confirm(self, store: StoreIdentity) -> order_pb2.ConfirmStoreResponse:
        request = _request(store, lease_s=self._lease_s)
        with order_faults():
            return await self._orders.ConfirmStore(request, timeout=ANSWER_TIMEOUT_S)

    async def _keep(self, store: StoreIdentity, answer: order_pb2.ConfirmStoreResponse) -> None:
        skus = await self._keeper.keep(
            answer.token, mesh_id=answer.mesh_id, run_id=store.run_id, discard=answer.discard
        )
        self._discarded.note(skus)
        log.warning(
            "store has become current",
            generation=answer.generation,
            discarded_sales=len(skus),
            **self._keeper.named,
        )

    def _grant(
        self, store: StoreIdentity, answer: order_pb2.ConfirmStoreResponse, *, asked_s: float
    ) -> None:
        wait_s = answer.wait.ToNanoseconds() / 1e9
        self._lease.grant(
            store.run_id,
            from_s=self._clock.monotonic_s() + wait_s if wait_s else asked_s,
            until_s=asked_s + self._lease_s,
        )
        self._superseded = ""
        metrics.STORE_GENERATION.set(answer.generation)
        if answer.generation != self._generation:
            self._generation = answer.generation
            log.info(
                "store confirmed",
                generation=answer.generation,
                wait_s=round(wait_s, 3),
                **self._keeper.named,
            )
        self._say("the leases of the store before are not over" if wait_s else "")

    def _leave(self, store: StoreIdentity, generation: int) -> None:
        """Promise nothing by this server, and connect again: the address may lead elsewhere."""
        self._lease.withdraw()
        self._superseded = store.run_id
        self._say(f"the store is stale: generation {generation} is another one's")
        self._keeper.reconnect("a superseded store")

    def _go_on(self, store: StoreIdentity, problem: str) -> None:
        """Without an answer, extend the lease: who cannot ask is not told that it is over either.

        Nobody can raise the generation without the same database. A lease that is over, because
        this process was frozen, may have been followed by another store's: it takes an answer, or
        many questions without one.
        """
        self._say(f"the store is not confirmed: {problem}")
        if store.run_id == self._superseded:
            return
        self._unanswered += 1
        now_s = self._clock.monotonic_s()
        if self._lease.is_valid_for(store.run_id):
            self._lease.extend(until_s=now_s + self._lease_s)
        elif self._unanswered >= UNANSWERED_MAX:
            self._lease.grant(store.run_id, from_s=now_s, until_s=now_s + self._lease_s)

    def _say(self, problem: str) -> None:
        """Log a problem when it changes; readiness tells the last one."""
        if problem and problem != self._problem:
            log.warning("store fence", problem=problem, **self._keeper.named)
        self._problem = problem


def _request(store: StoreIdentity, *, lease_s: float) -> order_pb2.ConfirmStoreRequest:
    request = order_pb2.ConfirmStoreRequest(
        replication_id=store.replication_id,
        previous_replication_id=store.previous_replication_id,
        run_id=store.run_id,
        token=store.token,
        mesh_id=store.mesh_id,
        empty=store.empty,
        shard=store.shard,
    )
    request.lease.FromNanoseconds(int(lease_s * 1e9))
    return request
