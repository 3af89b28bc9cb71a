"""The people: drawn once from a seed, the same for every run, and tuned to no result."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.bots.callers import DAY_S, Caller, Kind, addresses_of, draw_reaction

# Networks of the drill alone: the gateway is told them by its proxy, nothing is sent there.
HOMES = "10.0.0.0/9"
SHARED = "100.64.0.0/10"


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What people are like; shares are 0 to 1.

    Attributes:
        in_offices, in_carriers: behind an address that so many share (office_size, carrier_size).
        impatient: press up to a second and a half too early, and again when told so.
        newcomers: have opened their account for this sale, within two days.
        age_median_days, age_sigma: of the other accounts, log-normal.
        phone_verified: of all.
        shared_card: pay with the card of somebody at home.
    """

    in_offices: float = 0.12
    office_size: int = 25
    in_carriers: float = 0.08
    carrier_size: int = 100
    impatient: float = 0.04
    newcomers: float = 0.08
    age_median_days: float = 500.0
    age_sigma: float = 1.3
    phone_verified: float = 0.88
    shared_card: float = 0.06


def draw_people(count: int, *, seed: int, tag: str, habits: Habits | None = None) -> list[Caller]:
    """Return so many people.

    Args:
        seed: of everything that is drawn; their ids and cards alone depend on `tag`.
        tag: makes their ids those of one run.
    """
    habits = habits or Habits()
    rng = random.Random(seed)
    home = addresses_of(HOMES, rng)
    shared = addresses_of(SHARED, rng)
    offices = _Doors(shared, habits.office_size)
    carriers = _Doors(shared, habits.carrier_size)
    people: list[Caller] = []
    for number in range(count):
        place = rng.random()
        if place < habits.in_offices:
            address = offices.next()
        elif place < habits.in_offices + habits.in_carriers:
            address = carriers.next()
        else:
            address = home()
        arrives_s = again_s = draw_reaction(rng)
        if rng.random() < habits.impatient:
            arrives_s = -1.5 * rng.random()
        age_s = 2 * DAY_S * rng.random()
        if rng.random() >= habits.newcomers:
            age_s = DAY_S * habits.age_median_days * rng.lognormvariate(0.0, habits.age_sigma)
        fingerprint = f"{tag}-card-{number}"
        if people and rng.random() < habits.shared_card:
            fingerprint = people[-1].fingerprint
        people.append(
            Caller(
                kind=Kind.PERSON,
                user_id=f"{tag}-person-{number}",
                address=address,
                arrives_s=arrives_s,
                account_age_s=age_s,
                fingerprint=fingerprint,
                phone_verified=rng.random() < habits.phone_verified,
                retries=rng.choice((1, 2)),
                again_s=again_s,
            )
        )
    return people


class _Doors:
    """Addresses that several share; the next one is opened when one is full."""

    def __init__(self, draw: Callable[[], str], size: int) -> None:
        self._draw = draw
        self._size = size
        self._behind = 0
        self._address = ""

    def next(self) -> str:
        if self._behind % self._size == 0:
            self._address = self._draw()
        self._behind += 1
        return self._address
