"""The rules of the gate that operators change: never changed themselves, read without waiting."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.entries import NO_ENTRIES, Entries, Entry
from seckill.runtime.gate_limits import LIMITS, UNPAID_ORDERS
from seckill.v1 import gate_pb2

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SalePolicy:
    """What a sale asks of its buyers; by default nothing.

    Attributes:
        challenge_at, refuse_at: risk scores of 1 to 100 from which a buyer is challenged or
            refused; 0 for never.
        require_clean_history: whether buyers with unpaid history are refused.
        admission_multiple: purchases let through for each unit that remains; 0 for the setting.
    """

    challenge_at: int = 0
    refuse_at: int = 0
    require_clean_history: bool = False
    admission_multiple: float = 0.0

    @classmethod
    def of(cls, policy: gate_pb2.SalePolicy) -> "SalePolicy":
        """Return the policy that a message holds."""
        return cls(
            policy.challenge_at,
            policy.refuse_at,
            policy.require_clean_history,
            policy.admission_multiple,
        )


NO_POLICY = SalePolicy()


@dataclass(frozen=True, slots=True)
class GateRules:
    """The rules of one revision.

    Attributes:
        revision: 0 while no rules were ever set, or none have been heard of.
        limits: what operators have set, by name (seckill.runtime.gate_limits).
        entries: who is allowed and denied; those that have expired are not among them.
        policies: by sku.
    """

    revision: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    entries: Entries = NO_ENTRIES
    policies: Mapping[str, SalePolicy] = field(default_factory=dict)

    def policy(self, sku: str) -> SalePolicy:
        """Return the policy of a sale."""
        return self.policies.get(sku, NO_POLICY)

    @property
    def unpaid_orders_max(self) -> int:
        """Unpaid orders that one buyer may have over all sales; 0 for no cap."""
        return int(self.limits.get(UNPAID_ORDERS, 0))


NO_RULES = GateRules()


@dataclass(slots=True)
class RulesHeard:
    """Puts the rules together from the messages of WatchGateRules.

    Attributes:
        revision: of the last messages that were put together.
    """

    revision: int = 0
    _limits: dict[str, float] = field(default_factory=dict)
    _entries: dict[int, Entry] = field(default_factory=dict)
    _policies: dict[str, SalePolicy] = field(default_factory=dict)
    _parts: list[tuple[gate_pb2.WatchGateRulesResponse, dict[int, Entry]]] = field(
        default_factory=list
    )

    def broken(self) -> None:
        """Forget messages whose last one will not come."""
        self._parts.clear()

    def take(self, message: gate_pb2.WatchGateRulesResponse) -> bool:
        """Take in a message; return whether the rules are complete and may be built."""
        # Read part by part, with turns of the loop between.
        self._parts.append((message, _read_entries(message.entries)))
        if message.more:
            return False
        for part, entries in self._parts:
            self._apply(part, entries)
        self._limits = _read_limits(message.limits)
        self.revision = message.revision
        self._parts.clear()
        return True

    def _apply(self, part: gate_pb2.WatchGateRulesResponse, entries: dict[int, Entry]) -> None:
        if part.snapshot:
            self._entries.clear()
            self._policies.clear()
        self._entries.update(entries)
        for number in part.removed_entry_ids:
            self._entries.pop(number, None)
        for told in part.policies:
            policy = SalePolicy.of(told)
            if policy == NO_POLICY:
                self._policies.pop(told.sku, None)
            else:
                self._policies[told.sku] = policy

    def build(self, now_s: float) -> GateRules:
        """Return the rules as they are in force at a moment (Unix time)."""
        return GateRules(
            self.revision,
            dict(self._limits),
            Entries.of(self._in_force(now_s)),
            dict(self._policies),
        )

    def _in_force(self, now_s: float) -> Iterable[Entry]:
        return [entry for entry in self._entries.values() if entry.expire_s > now_s]

    def next_expiry_s(self, now_s: float) -> float:
        """Return when the next entry expires (Unix time); infinity if none will."""
        return min((entry.expire_s for entry in self._in_force(now_s)), default=math.inf)


def _read_entries(entries: Iterable[gate_pb2.GateEntry]) -> dict[int, Entry]:
    """Return the entries by number; one that cannot be read must not stop the others."""
    read: dict[int, Entry] = {}
    for entry in entries:
        try:
            read[entry.id] = Entry.of(entry)
        except ValueError as error:
            log.error("gate entry left out", id=entry.id, error=str(error))  # noqa: TRY400
    return read


def _read_limits(limits: Iterable[gate_pb2.GateLimit]) -> dict[str, float]:
    """Return the limits by name, but for those that this release does not know or take."""
    read: dict[str, float] = {}
    for limit in limits:
        known = LIMITS.get(limit.name)
        problem = "is unknown" if known is None else known.problem(limit.value)
        if problem:
            log.error("gate limit left out", name=limit.name, problem=problem)
        else:
            read[limit.name] = limit.value
    return read
