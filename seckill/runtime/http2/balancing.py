"""Which replica gets the next call: each in turn, of those that are connected and do well."""

import asyncio
import random
from collections.abc import Sequence

import structlog

from seckill.runtime.http2.outliers import INTERVAL_S, judge
from seckill.runtime.http2.replica import Connect, Replica
from seckill.runtime.http2.targets import Address, Target

# Addresses are asked for again when a connection ends, so often at most.
RESOLVE_S = 1.0

log = structlog.get_logger()


class NoReplica(Exception):
    """No replica could be reached."""


class Balancer:
    """Keeps a connection to each replica of a service.

    Calls wait while replicas are being connected to for the first time, or again after a connection
    has ended. Once all of them have failed, calls fail at once until one is connected.
    """

    def __init__(
        self,
        target: Target,
        connect: Connect,
        *,
        service: str,
        rng: random.Random | None = None,
    ) -> None:
        """`service`: full name of the service, for the log."""
        self._target = target
        self._connect = connect
        self._service = service
        self._rng = rng or random.Random()  # noqa: S311 - spreads pauses, guards nothing
        self._replicas: dict[Address, Replica] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        # What could have the next call, and whose turn it was.
        self._choice: list[Replica] = []
        self._turn = 0
        self._unresolved = ""
        self._resolve_wanted = asyncio.Event()
        # Calls that wait for a replica, in the order in which they came.
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._background: list[asyncio.Task[None]] = []

    # -- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Resolve and connect from now on."""
        self._background = [
            asyncio.create_task(self._keep_resolved(), name=f"resolve {self._service}"),
            asyncio.create_task(self._judge_forever(), name=f"judge {self._service}"),
        ]

    async def close(self) -> None:
        """Connect no longer; connections end with their last calls."""
        tasks = [*self._background, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def renew(self) -> None:
        """Open all connections again; calls on those that are open end there."""
        for replica in self._replicas.values():
            if replica.connection is not None:
                replica.connection.leave()

    # -- the choice ------------------------------------------------------------------------------

    def pick(self) -> Replica | None:
        """Return the replica whose turn it is; None if there is none to be had now."""
        choice = self._choice
        for _ in choice:
            self._turn = (self._turn + 1) % len(choice)
            replica = choice[self._turn]
            if replica.usable:
                return replica
        return None

    async def wait(self, deadline_s: float) -> Replica:
        """Return the replica whose turn it is, once there is one.

        Args:
            deadline_s: of the loop's time.

        Raises:
            NoReplica: none can be reached.
            TimeoutError: none was connected by the deadline.
        """
        loop = asyncio.get_running_loop()
        while True:
            replica = self.pick()
            if replica is not None:
                return replica
            failure = self._failure()
            if failure:
                raise NoReplica(failure)
            changed: asyncio.Future[None] = loop.create_future()
            self._waiters[changed] = None
            try:
                async with asyncio.timeout_at(deadline_s):
                    await changed
            finally:
                del self._waiters[changed]

    def _failure(self) -> str:
        """Return why no replica can be reached; empty while one may still be."""
        replicas = self._replicas.values()
        if not replicas:
            return self._unresolved
        if any(replica.connection is not None or not replica.failure for replica in replicas):
            return ""
        return next(iter(replicas)).failure

    def _changed(self) -> None:
        """A replica has been connected, or is not any more."""
        connected = [replica for replica in self._replicas.values() if replica.usable]
        well = [replica for replica in connected if not replica.standing.left_out]
        self._choice = well or connected
        if len(connected) < len(self._replicas):
            self._resolve_wanted.set()
        if self._choice or self._failure():
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # -- what goes on beside the calls -----------------------------------------------------------

    async def _keep_resolved(self) -> None:
        while True:
            self._resolve_wanted.clear()
            try:
                self._take(await self._target.resolve())
                self._unresolved = ""
            except (OSError, UnicodeError) as error:
                # What is known stays: names are away more often than what they name.
                if not self._unresolved:
                    log.warning("service not resolved", service=self._service, error=str(error))
                self._unresolved = str(error) or type(error).__name__
                self._resolve_wanted.set()
                self._changed()
            await asyncio.sleep(RESOLVE_S)
            await self._resolve_wanted.wait()

    def _take(self, addresses: Sequence[Address]) -> None:
        for address in self._replicas.keys() - set(addresses):
            self._replicas.pop(address)
            # Its connection ends with its last call.
            self._tasks.pop(address).cancel()
        for address in addresses:
            if address not in self._replicas:
                replica = Replica(address, self._connect, on_change=self._changed, rng=self._rng)
                self._replicas[address] = replica
                self._tasks[address] = asyncio.create_task(replica.run(), name=f"replica {address}")
        self._changed()

    async def _judge_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(INTERVAL_S)
            replicas = list(self._replicas.values())
            left_out = judge([replica.standing for replica in replicas], loop.time())
            for replica in replicas:
                if replica.standing in left_out:
                    address = str(replica.address)
                    log.warning("replica left out", service=self._service, address=address)
            self._changed()
