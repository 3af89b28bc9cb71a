"""Who is allowed and who is denied, built once when the rules change, asked for each call."""

import ipaddress
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.addresses import IPV4_FIRST, number_of
from gateway.front.call import USER_AGENT_CHARACTERS_MAX
from seckill.v1 import gate_pb2

# What an entry says of a caller; None for no word.
ALLOWED, DENIED = True, False
Verdict = bool | None


class Entry(NamedTuple):
    """One entry, read once: networks take time to be read.

    Attributes:
        start, size: of a network, the number of its first address and how many it has.
        expire_s: when it ends by itself (Unix time); infinity if it does not.
    """

    kind: int
    value: str
    verdict: bool
    start: int
    size: int
    expire_s: float

    @classmethod
    def of(cls, entry: gate_pb2.GateEntry) -> "Entry":
        """Return the entry that a message holds."""
        start = size = 0
        if entry.kind == gate_pb2.GATE_ENTRY_KIND_NETWORK:
            network = ipaddress.ip_network(entry.value)
            start, size = number_of(network.network_address), network.num_addresses
        ends = entry.HasField("expire_time")
        expire_s = entry.expire_time.ToNanoseconds() / 1e9 if ends else math.inf
        verdict = entry.list == gate_pb2.GATE_LIST_ALLOW
        return cls(entry.kind, entry.value, verdict, start, size, expire_s)


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries of both lists that are in force.

    Attributes:
        users: verdict by user id.
        user_agents: parts of user agents in lower case with their verdicts, longest first.
    """

    users: Mapping[str, bool] = field(default_factory=dict)
    user_agents: tuple[tuple[str, bool], ...] = ()
    # Where a verdict begins, as numbers of addresses in rising order, and the verdicts: each holds
    # until the next one begins.
    _starts: tuple[int, ...] = ()
    _verdicts: tuple[Verdict, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Entries":
        """Return these entries, ready to be asked."""
        by_kind: dict[int, list[Entry]] = {}
        for entry in entries:
            by_kind.setdefault(entry.kind, []).append(entry)
        users = by_kind.get(gate_pb2.GATE_ENTRY_KIND_USER, ())
        parts = by_kind.get(gate_pb2.GATE_ENTRY_KIND_USER_AGENT, ())
        return cls(
            {entry.value: entry.verdict for entry in users},
            tuple(
                (entry.value, entry.verdict)
                for entry in sorted(parts, key=lambda each: len(each.value), reverse=True)
            ),
            *_flat(by_kind.get(gate_pb2.GATE_ENTRY_KIND_NETWORK, ())),
        )

    @property
    def has_networks(self) -> bool:
        """Whether any entry names a network."""
        return bool(self._starts)

    def of_address(self, number: int) -> Verdict:
        """Return what the smallest network says that an address is in.

        Args:
            number: `number_of` the address.
        """
        place = bisect_right(self._starts, number) - 1
        return self._verdicts[place] if place >= 0 else None

    def of_user_agent(self, text: str | None) -> Verdict:
        """Return what the longest part says that is in a user agent; upper and lower case alike."""
        if not text:
            return None
        lower = text[:USER_AGENT_CHARACTERS_MAX].lower()
        for part, verdict in self.user_agents:
            if part in lower:
                return verdict
        return None


NO_ENTRIES = Entries()


def _flat(networks: Iterable[Entry]) -> tuple[tuple[int, ...], tuple[Verdict, ...]]:
    """Turn nested networks into ranges side by side, each with the verdict of its smallest one."""
    starts: list[int] = []
    verdicts: list[Verdict] = []

    def begin(start: int, verdict: Verdict) -> None:
        if starts and starts[-1] == start:
            starts.pop()
            verdicts.pop()
        starts.append(start)
        verdicts.append(verdict)

    # The networks around the present place, outermost first: where each ends, and what it says.
    around: list[tuple[int, Verdict]] = []

    def leave_until(start: int) -> None:
        while around and around[-1][0] <= start:
            end, _ = around.pop()
            begin(end, around[-1][1] if around else None)

    # Of two with one start the larger one is around the other.
    for entry in sorted(networks, key=lambda each: (each.start, -each.size)):
        leave_until(entry.start)
        begin(entry.start, entry.verdict)
        around.append((entry.start + entry.size, entry.verdict))
    leave_until(IPV4_FIRST * 2)
    return tuple(starts), tuple(verdicts)
