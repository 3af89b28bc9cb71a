"""A primary with its replicas: how recent what each replica has is, by this process' own clock.

This process writes beats to the primary, numbers that it never uses again, and remembers when it
sent each. A replica that shows a beat has all that the primary had when the beat was sent. So an
age is an upper bound, whatever the clocks of the servers say.
"""

import asyncio
import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Gauge

from seckill.runtime import keyspace
from seckill.runtime.redis_client import REDIS_ERRORS, Command, send_all

if TYPE_CHECKING:
    import redis.asyncio

# Beats of a process that is gone leave Redis by themselves.
BEAT_KEPT_S = 60
# A beat is written this often, or four times within the oldest age; sooner if someone waits for it.
BEAT_INTERVAL_S = 0.25
# Pause before replicas that someone waits for are looked at again: about what replication takes,
# and longer from time to time if a replica does not follow.
LOOK_AGAIN_S, LOOK_AGAIN_MAX_S = 0.002, 0.05
# The list of replicas is trusted for so long; it is asked for three times as often.
LIST_KEPT_S = 3.0
REDIS_REPLICAS_READ_COUNT = Gauge(
    "seckill_redis_replicas_read_count", "Replicas of Redis that are recent enough to be read."
)
log = structlog.get_logger()


class Replica:
    """One replica.

    Attributes:
        listed_s: monotonic time at which it was first listed.
        missed_s: monotonic time since which it has not been listed; None while it is.
        newest_s: it has all that its primary had at this monotonic time.
        answers: whether it answered when it was last asked.
        is_read: whether it was recent enough when this was last looked at.
    """

    def __init__(self, address: str, client: "redis.asyncio.Redis", *, listed_s: float) -> None:
        self.address = address
        self.client = client
        self.listed_s = listed_s
        self.missed_s: float | None = None
        self.newest_s = -math.inf
        self.answers = False
        self.is_read = False


class Shard:
    """A primary, the beats that this process writes to it, and its replicas."""

    def __init__(
        self,
        primary: "redis.asyncio.Redis",
        *,
        tag: str = "",
        in_cluster: bool = False,
        oldest_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe it; nothing is sent.

        Args:
            tag: hash tag of one of its slots, with braces, in a cluster.
            oldest_s: age from which on a replica is not read.
        """
        self._primary = primary
        self._tag = tag
        self._in_cluster = in_cluster
        self._oldest_s = oldest_s
        self._monotonic_s = monotonic_s
        self._key = ":".join(filter(None, (keyspace.prefix, "beat", tag, uuid.uuid4().hex[:16])))
        self._numbers = count(1)
        # When each beat was sent that a replica may be recent by, the oldest first.
        self._sent_s: dict[int, float] = {}
        self._replicas: dict[str, Replica] = {}
        self._turn = count()
        # When the replicas were last listed, and since when without a gap.
        self._listed_s = -math.inf
        self._listed_since_s = math.inf
        self._wanted = asyncio.Event()
        self._looked = asyncio.Event()

    def fits(self, primary: "redis.asyncio.Redis", tag: str) -> bool:
        """Return whether this is the client of its primary, and a tag that its primary has."""
        return primary is self._primary and tag == self._tag

    def note_listed(
        self,
        replicas: Iterable[tuple[str, int]],
        connect: Callable[[str, int], "redis.asyncio.Redis"],
        *,
        asked_s: float,
        is_final: bool = False,
    ) -> list["redis.asyncio.Redis"]:
        """Note which replicas there are.

        A new one is not read at once, and one that is gone is not forgotten at once, so that all
        processes know of each replica that one of them reads.

        Args:
            connect: makes a client of the replica at host and port.
            asked_s: monotonic time at which they were asked for.
            is_final: they never change.

        Returns:
            Clients of replicas that are forgotten.
        """
        if is_final:
            self._listed_s, self._listed_since_s = math.inf, -math.inf
        elif asked_s - self._listed_s > LIST_KEPT_S:
            self._listed_s, self._listed_since_s = asked_s, asked_s
        else:
            self._listed_s = asked_s
        names = {f"{host}:{port}": (host, port) for host, port in replicas}
        for name, (host, port) in names.items():
            if name not in self._replicas:
                listed_s = -math.inf if is_final else self._monotonic_s()
                self._replicas[name] = Replica(name, connect(host, port), listed_s=listed_s)
            self._replicas[name].missed_s = None
        forgotten = []
        for name in self._replicas.keys() - names.keys():
            replica = self._replicas[name]
            if replica.missed_s is None:
                replica.missed_s = self._monotonic_s()
                self._judge(replica, "it is not listed")
            elif self._monotonic_s() - replica.missed_s > self._oldest_s:
                forgotten.append(self._replicas.pop(name).client)
        return forgotten

    def next_replica(self) -> Replica | None:
        """Return a replica that is recent enough, in turn; None if there is none."""
        recent = [one for one in self._replicas.values() if self._is_recent(one)]
        return recent[next(self._turn) % len(recent)] if recent else None

    async def ask(self, replica: Replica, commands: Sequence[Command]) -> tuple[list[Any], float]:
        """Return a replica's replies, and their greatest possible age in seconds.

        The age is infinite if the replica is not recent, or refuses a command.
        """
        prefix: list[Command] = [("READONLY",)] if self._in_cluster else []
        try:
            async with asyncio.timeout(self._oldest_s / 2):
                replies = await send_all(replica.client, [*prefix, ("GET", self._key), *commands])
        except REDIS_ERRORS as error:
            replica.answers = False
            self._judge(replica, repr(error))
            return [], math.inf
        beat, *answers = replies[len(prefix) :]
        sent_s = self._sent_s.get(int(beat or 0), -math.inf)
        replica.answers, replica.newest_s = True, max(replica.newest_s, sent_s)
        age_s = self._monotonic_s() - sent_s
        self._judge(replica, "it is too old")
        return answers, age_s if age_s <= self._oldest_s else math.inf

    async def confirm(self, since_s: float) -> None:
        """Return once no replica that any process reads lacks what the primary had at `since_s`.

        Either each of them has shown that it has it, or one that has not is too old by then.
        """
        ends_s = since_s + self._oldest_s
        while not self._all_have(since_s) and (left_s := ends_s - self._monotonic_s()) > 0:
            looked = self._looked
            self._wanted.set()
            try:
                async with asyncio.timeout(left_s):
                    await looked.wait()
            except TimeoutError:
                return

    async def run(self) -> None:
        """Write beats and look at the replicas until cancelled."""
        interval_s = min(BEAT_INTERVAL_S, self._oldest_s / 4)
        pause_s, before_s = LOOK_AGAIN_S, -math.inf
        while True:
            self._wanted.clear()
            beat_s = await self.run_once()
            if all(one.newest_s >= before_s for one in self._replicas.values()):
                pause_s = LOOK_AGAIN_S
            else:
                pause_s = min(2 * pause_s, LOOK_AGAIN_MAX_S)
            before_s = beat_s
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            try:
                async with asyncio.timeout(interval_s):
                    await asyncio.sleep(pause_s)
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def run_once(self) -> float:
        """Write a beat, then look which one each replica has; return when it was sent."""
        number, now_s = next(self._numbers), self._monotonic_s()
        self._sent_s[number] = now_s
        while now_s - next(iter(self._sent_s.values())) > self._oldest_s:
            del self._sent_s[next(iter(self._sent_s))]
        beat: Command = ("SET", self._key, number, "EX", BEAT_KEPT_S)
        try:
            async with asyncio.timeout(self._oldest_s / 2):
                await send_all(self._primary, [beat])
        except REDIS_ERRORS as error:
            # Who reads or writes there is told; replicas become too old.
            log.debug("no beat written", error=repr(error))
        await asyncio.gather(*(self.ask(one, ()) for one in list(self._replicas.values())))
        return now_s

    def forget(self) -> Iterable["redis.asyncio.Redis"]:
        """Count its replicas no more, and return their clients."""
        for replica in self._replicas.values():
            if replica.is_read:
                replica.is_read = False
                REDIS_REPLICAS_READ_COUNT.dec()
        return [replica.client for replica in self._replicas.values()]

    def _all_have(self, since_s: float) -> bool:
        now_s = self._monotonic_s()
        is_list_complete = (
            now_s - self._listed_s < LIST_KEPT_S and now_s - self._listed_since_s > self._oldest_s
        )
        return is_list_complete and all(one.newest_s >= since_s for one in self._replicas.values())

    def _is_recent(self, replica: Replica) -> bool:
        now_s = self._monotonic_s()
        return (
            replica.answers
            and replica.missed_s is None
            and now_s - replica.listed_s > LIST_KEPT_S + self._oldest_s
            and now_s - replica.newest_s <= self._oldest_s
        )

    def _judge(self, replica: Replica, reason: str) -> None:
        is_read = self._is_recent(replica)
        if is_read and not replica.is_read:
            REDIS_REPLICAS_READ_COUNT.inc()
            log.info("redis replica is read", replica=replica.address)
        elif replica.is_read and not is_read:
            REDIS_REPLICAS_READ_COUNT.dec()
            log.warning("redis replica is not read", replica=replica.address, error=reason)
        replica.is_read = is_read
