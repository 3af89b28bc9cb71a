"""From what happened at one sale to its figures."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.bots.callers import Caller
from bench.bots.visits import Visit
from seckill.client import Outcome

DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an attacker has spent for one sale.

    Attributes:
        cpu_s: seconds of CPU, solutions of challenges included.
        addresses, accounts: that it came with.
    """

    cpu_s: float
    addresses: int
    accounts: int

    def per_unit(self, units: int) -> dict[str, float | None]:
        """Return the cost of each unit that was got; None where none was, whatever was spent."""
        spent = {"cpu_s": self.cpu_s, "addresses": self.addresses, "accounts": self.accounts}
        return {
            name: _significant(value / units) if units else None for name, value in spent.items()
        }


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Who got what at one sale.

    Attributes:
        units: sold.
        bot_units: of these, sold to the attacker.
        bot_share: bot_units of units, 0 to 1.
        people_challenged: share of people who were asked for a solution at least once.
        people_refused: share of people who left without an answer of the sale, for whatever reason:
            a refusal, a limit or an overload that outlasted their patience.
    """

    units: int
    bot_units: int
    bot_share: float
    people_challenged: float
    people_refused: float


def count_shares(
    sold: Mapping[str, int], *, people: Sequence[Visit], bots: Collection[str]
) -> Shares:
    """Count one sale.

    Args:
        sold: units by buyer, as the database has them.
        people: what became of them; at least one.
        bots: user ids of the attacker.

    Raises:
        ValueError: nothing was sold, or to a buyer who did not come.
    """
    known = {visit.user_id for visit in people} | set(bots)
    strangers = sold.keys() - known
    if strangers:
        raise ValueError(f"{len(strangers)} buyers are nobody who came")
    units = sum(sold.values())
    if not units:
        raise ValueError("nothing was sold")
    bot_units = sum(sold.get(user_id, 0) for user_id in bots)
    return Shares(
        units=units,
        bot_units=bot_units,
        bot_share=round(bot_units / units, DIGITS),
        people_challenged=_share(visit.challenges > 0 for visit in people),
        people_refused=_share(not visit.answered for visit in people),
    )


def share_as_drawn(people: Sequence[Caller], bots: Sequence[Caller], *, units: int) -> float:
    """Return the attacker's share if those who came first, as drawn, had got a unit each.

    How far a sale with the gate off is from it says how much the machine has decided. Who came too
    early counts with the moment at which they could buy.
    """
    moments = [(max(one.arrives_s, one.again_s, 0.0), False) for one in people]
    moments += [(max(one.arrives_s, 0.0), True) for one in bots]
    first = sorted(moments)[:units]
    return _share(is_bot for _, is_bot in first)


def count_spent(
    callers: Sequence[Caller], visits: Sequence[Visit], *, cpu_s: float, hash_s: float
) -> Spent:
    """Sum up what an attacker has spent.

    Args:
        callers: its identities.
        visits: what became of them.
        cpu_s: seconds of CPU that its calls took.
        hash_s: seconds of CPU for each hash that solutions took.
    """
    return Spent(
        cpu_s=cpu_s + hash_s * sum(visit.hashes for visit in visits),
        addresses=len({caller.address for caller in callers}),
        accounts=len(callers),
    )


def describe(visits: Sequence[Visit]) -> dict[str, Any]:
    """Return what became of callers, for who wants to know more than the shares."""
    failures: Counter[str] = Counter()
    for visit in visits:
        failures += visit.failures
    return {
        "callers": len(visits),
        "calls": sum(visit.calls for visit in visits),
        "endings": dict(Counter(visit.ending for visit in visits).most_common()),
        "failed_calls": dict(failures.most_common()),
        "challenges": sum(visit.challenges for visit in visits),
        "challenged_who_bought": sum(
            visit.challenges > 0 and visit.ending == Outcome.RESERVED.name for visit in visits
        ),
        "late_ms_p99": round(late_s(visits) * 1000, 1),
    }


def late_s(visits: Sequence[Visit]) -> float:
    """Return by how much callers came later than drawn: 99 of 100 by no more."""
    late = sorted(visit.late_s for visit in visits)
    return late[int(0.99 * (len(late) - 1))]


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return round(sum(counted) / len(counted), DIGITS)


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
