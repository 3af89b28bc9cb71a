"""Which orders belong together, by what is known of them."""

import random

import pytest

from order_svc.hoarding.clusters import (
    RHYTHM_ORDERS_MIN,
    Cluster,
    Kind,
    SightedOrder,
    find_clusters,
)
from seckill.order_no import make_order_nos

START_S = 1_800_000_000.0
HOME, OFFICE, CARD = b"h" * 16, b"o" * 16, b"c" * 16


def order(
    after_s: float, *, user: str = "", address: bytes | None = None, card: bytes | None = None
) -> SightedOrder:
    """Return an order that was reserved so long after the start."""
    user = user or f"user-{random.random()}"
    (number,) = make_order_nos([user], now_s=START_S + after_s, rng=random.Random())
    return SightedOrder(number, user, 1, "pending", address, card)


def clusters(
    orders: list[SightedOrder], *, early_s: float = 0.001, orders_min: int = 3
) -> list[Cluster]:
    """Return the clusters of these orders."""
    by_number = sorted(orders)
    return find_clusters(by_number, starts_s=START_S, early_s=early_s, orders_min=orders_min)


def test_orders_of_one_address_or_one_card_belong_together() -> None:
    """Largest first; an order may be in two; those of which nothing is known are in none."""
    family = [order(10 + n, address=HOME, card=CARD) for n in range(3)]
    office = [order(20 + 7 * n**2, address=OFFICE) for n in range(4)]
    strangers = [order(400 + 11 * n**2) for n in range(5)]
    found = clusters([*strangers, *family, *office])
    assert [(one.kind, len(one.orders)) for one in found] == [
        (Kind.ADDRESS, 4),
        (Kind.ADDRESS, 3),
        (Kind.FINGERPRINT, 3),
    ]
    assert found[0].id == f"address:{OFFICE.hex()}"
    assert set(found[2].orders) == set(family)
    assert clusters([*family, *office], orders_min=5) == []


def test_orders_earlier_than_people_are_belong_together() -> None:
    """Those of the first 200 ms, and no others; without a start nobody is early."""
    bots = [order(0.03 + 0.001 * n) for n in range(5)]
    people = [order(0.9 + 0.05 * n**2) for n in range(5)]
    (found,) = clusters([*people, *bots], early_s=0.2)
    assert (found.id, set(found.orders)) == ("early", set(bots))
    orders = sorted([*people, *bots])
    assert find_clusters(orders, starts_s=None, early_s=0.2, orders_min=3) == []


def test_orders_at_one_distance_belong_together() -> None:
    """A timer's orders, to the millisecond; what came before and after is not of them."""
    before, after = [order(1.0), order(1.4)], [order(30.1), order(30.9)]
    timer = [order(3 + 0.25 * n + random.Random(n).uniform(0, 0.001)) for n in range(12)]
    (found,) = clusters([*before, *timer, *after])
    assert found.kind is Kind.RHYTHM
    assert found.id == f"rhythm:{timer[0].order_no}"
    assert set(found.orders) == set(timer)
    assert clusters(timer[: RHYTHM_ORDERS_MIN - 1]) == []


@pytest.mark.parametrize("per_s", [2.0, 20.0, 200.0, 20_000.0])
def test_chance_and_rush_have_no_rhythm(per_s: float) -> None:
    """5,000 arrivals by chance are no timer's, however fast they come."""
    rng = random.Random(7)
    at_s, orders = 1.0, []
    for _ in range(5_000):
        at_s += rng.expovariate(per_s)
        orders.append(order(at_s))
    assert clusters(orders) == []
