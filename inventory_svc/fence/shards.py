"""The fence of a cluster: one for each node that owns slots (docs/adr/0042)."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog

from inventory_svc import metrics
from inventory_svc.fence.discarded import DiscardedSales
from inventory_svc.fence.fence import StoreFence
from inventory_svc.fence.lease import (
    StoreLease,
    ask_run_id,
    no_longer_confirmed,
    unconfirmed,
)
from inventory_svc.fence.shard_store import ShardKeeper
from seckill.errors import DependencyUnavailable
from seckill.runtime.clock import Clock
from seckill.runtime.redis_client import redis_faults
from seckill.runtime.redis_cluster import ClusterRedis

if TYPE_CHECKING:
    from seckill.v1 import order_pb2_grpc

# How often the nodes that own slots are compared with those that have a fence.
LOOK_INTERVAL_S = 0.1
log = structlog.get_logger()


class ShardLeases:
    """Says which servers of a cluster may promise units; see StoreLease."""

    def __init__(self) -> None:
        # By the node's address.
        self._leases: dict[str, StoreLease] = {}
        # Run id of the server that each open connection leads to, by the stream that it writes to.
        self._servers: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def add(self, address: str, lease: StoreLease) -> None:
        """Ask this lease too."""
        self._leases[address] = lease

    def remove(self, address: str) -> None:
        """Have the lease of a node that owns no slots any more ended."""
        if (lease := self._leases.pop(address, None)) is not None:
            lease.withdraw()

    @property
    def holds(self) -> Mapping[str, bool]:
        """Whether the server at each address may promise units now."""
        return {address: lease.holds for address, lease in self._leases.items()}

    async def admit(self, connection: Any) -> str:
        """Return the run id of the server at the other end, which may promise units now.

        Raises:
            DependencyUnavailable: it may not.
        """
        server = self._servers.get(connection._writer)  # noqa: SLF001 - see _servers
        if server is None:
            server = await ask_run_id(connection)
            self._servers[connection._writer] = server  # noqa: SLF001
        if not self._allow(server):
            raise unconfirmed()
        return server

    def require(self, server: str) -> None:
        """Raise OutcomeUnknown if the lease of an admitted server is over: a script has run."""
        if not self._allow(server):
            raise no_longer_confirmed()

    def _allow(self, server: str) -> bool:
        return any(lease.allows(server) for lease in self._leases.values())


class ClusterFence:
    """Keeps a fence for each node that owns slots, as they come and go."""

    def __init__(
        self,
        cluster: ClusterRedis,
        orders: "order_pb2_grpc.OrderServiceAsyncStub",
        leases: ShardLeases,
        discarded: DiscardedSales,
        *,
        clock: Clock,
        lease_s: float,
    ) -> None:
        """The arguments are those of StoreFence."""
        self._cluster = cluster
        self._orders = orders
        self._leases = leases
        self._discarded = discarded
        self._clock = clock
        self._lease_s = lease_s
        self._fences: dict[str, tuple[StoreFence, asyncio.Task[None]]] = {}
        self._problem = "no node of the cluster is known yet"
        self._said = ""

    async def check(self) -> None:
        """Raise DependencyUnavailable while no node may promise units; one is enough to sell."""
        if not any(self._leases.holds.values()):
            raise DependencyUnavailable(self._problems() or self._problem)

    async def run(self) -> None:
        """Confirm all nodes until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look(group)
                self._show()
                await asyncio.sleep(LOOK_INTERVAL_S)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        try:
            with redis_faults():
                primaries = await self._cluster.primaries()
        except DependencyUnavailable as error:
            self._problem = str(error)
            return
        for address in self._fences.keys() - primaries.keys():
            self._fences.pop(address)[1].cancel()
            self._leases.remove(address)
        for address in primaries.keys() - self._fences.keys():
            lease = StoreLease(primaries[address][0], clock=self._clock)
            fence = StoreFence(
                ShardKeeper(self._cluster, address),
                self._orders,
                lease,
                self._discarded,
                clock=self._clock,
                lease_s=self._lease_s,
            )
            self._leases.add(address, lease)
            task = group.create_task(fence.run(), name=f"store-fence {address}")
            self._fences[address] = fence, task

    def _show(self) -> None:
        problems = self._problems()
        metrics.STORE_FENCED.set(bool(problems) or not self._fences)
        if problems != self._said:
            self._said = problems
            log.warning("shards confirmed", unconfirmed=problems or "none")

    def _problems(self) -> str:
        """Return what keeps which nodes from promising units; "" if nothing does."""
        found = {address: fence.problem for address, (fence, _) in sorted(self._fences.items())}
        return "; ".join(f"{address}: {problem}" for address, problem in found.items() if problem)
