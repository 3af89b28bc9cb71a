"""Finds orders of a sale that belong together. Pure: it depends on the orders only.

None of it proves anything. An office shares an address, a family a card; so clusters are shown to a
human, who decides.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from seckill.order_no import made_at_s

# Orders in a row at the same distance. In a stream of chance arrivals each distance is like the one
# before, to this tolerance, once in ten or more times: seven in a row are no chance.
RHYTHM_ORDERS_MIN = 8
RHYTHM_TOLERANCE_S = 0.003
# A rush has no rhythm: its orders lie as close as the machines decide them.
RHYTHM_DISTANCE_MIN_S = 0.03


class Kind(StrEnum):
    """Why orders belong together."""

    ADDRESS = "address"
    FINGERPRINT = "fingerprint"
    EARLY = "early"
    RHYTHM = "rhythm"


class SightedOrder(NamedTuple):
    """An order, and where it was reserved from.

    Attributes:
        order_no: it tells when the units were reserved, to the millisecond.
        user_id: its buyer.
        quantity: its units.
        status: as in the table.
        address, fingerprint: keyed hashes; None if it is not known.
    """

    order_no: str
    user_id: str
    quantity: int
    status: str
    address: bytes | None
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Orders that belong together, by number.

    Attributes:
        id: the same as long as the cluster has the same cause.
    """

    id: str
    kind: Kind
    orders: tuple[SightedOrder, ...]


def find_clusters(
    orders: Sequence[SightedOrder], *, starts_s: float | None, early_s: float, orders_min: int
) -> list[Cluster]:
    """Return the clusters, largest first.

    Args:
        orders: by number.
        starts_s: Unix time at which the sale started; None if it is not known.
        early_s: up to so long after it an order is early.
        orders_min: smaller clusters are none.
    """
    found = [*_shared(orders, Kind.ADDRESS), *_shared(orders, Kind.FINGERPRINT)]
    if starts_s is not None:
        early = tuple(order for order in orders if made_at_s(order.order_no) <= starts_s + early_s)
        found.append(Cluster(Kind.EARLY, Kind.EARLY, early))
    found += _rhythms(orders)
    large = [cluster for cluster in found if len(cluster.orders) >= orders_min]
    return sorted(large, key=rank)


def rank(cluster: Cluster) -> tuple[int, str]:
    """Order of the clusters: largest first."""
    return -len(cluster.orders), cluster.id


def _shared(orders: Sequence[SightedOrder], kind: Kind) -> Iterator[Cluster]:
    """The orders by what they share."""
    groups: defaultdict[bytes, list[SightedOrder]] = defaultdict(list)
    for order in orders:
        shared = order.address if kind is Kind.ADDRESS else order.fingerprint
        if shared is not None:
            groups[shared].append(order)
    for shared, members in groups.items():
        yield Cluster(f"{kind}:{shared.hex()}", kind, tuple(members))


def _rhythms(orders: Sequence[SightedOrder]) -> Iterator[Cluster]:
    """The longest runs of orders that follow each other at the same distance."""
    times_s = [made_at_s(order.order_no) for order in orders]
    first = 0
    for last in range(1, len(orders) + 1):
        if last < len(orders) and _keeps_time(times_s, first, last):
            continue
        if last - first >= RHYTHM_ORDERS_MIN:
            run = tuple(orders[first:last])
            yield Cluster(f"{Kind.RHYTHM}:{run[0].order_no}", Kind.RHYTHM, run)
        # The last distance may be the first of another rhythm.
        first = last - 1


def _keeps_time(times_s: Sequence[float], first: int, last: int) -> bool:
    """Whether order `last` is as far from the one before as those of the run are."""
    distance_s = times_s[last] - times_s[last - 1]
    if distance_s < RHYTHM_DISTANCE_MIN_S:
        return False
    if last - first < 2:  # The first distance sets the time.
        return True
    own_s = times_s[first + 1] - times_s[first]
    return math.isclose(distance_s, own_s, rel_tol=0, abs_tol=RHYTHM_TOLERANCE_S)
