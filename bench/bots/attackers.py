"""The three kinds of attackers: what each has bought before the sale, and how it calls."""

import random

from bench.bots.callers import DAY_S, Caller, Kind, addresses_of, draw_reaction

# Naive: a script on one rented range.
NAIVE_NETWORK = "203.0.113.0/24"
NAIVE_ADDRESSES = 254
NAIVE_IDENTITIES = 600
NAIVE_EARLY_S = 2.0
NAIVE_CARDS = 12
# Distributed: rented addresses of homes all over, accounts made in the weeks before.
DISTRIBUTED_NETWORK = "10.128.0.0/9"
DISTRIBUTED_ADDRESSES = 1_000
DISTRIBUTED_IDENTITIES = 2_000
DISTRIBUTED_AGE_DAYS = 30.0
DISTRIBUTED_ON_A_CARD = 4
DISTRIBUTED_VERIFIED = 0.5
# Accounts that were bought: old, verified, each with an address and a card of its own.
ACCOUNTS_IDENTITIES = 500
ACCOUNTS_AGE_DAYS = (200.0, 2_000.0)


def draw_attackers(kind: Kind, *, seed: int, tag: str) -> list[Caller]:
    """Return all identities of one kind of attacker; ids and cards alone depend on `tag`."""
    rng = random.Random(f"{kind} {seed}")
    match kind:
        case Kind.NAIVE:
            return _naive(rng, tag)
        case Kind.DISTRIBUTED:
            return _distributed(rng, tag)
        case Kind.ACCOUNTS:
            return _accounts(rng, tag)
        case Kind.PERSON:
            raise ValueError("a person is no attacker")


def _naive(rng: random.Random, tag: str) -> list[Caller]:
    draw = addresses_of(NAIVE_NETWORK, rng)
    addresses = [draw() for _ in range(NAIVE_ADDRESSES)]
    return [
        Caller(
            kind=Kind.NAIVE,
            user_id=f"{tag}-naive-{number}",
            address=addresses[number % len(addresses)],
            arrives_s=-NAIVE_EARLY_S * rng.random(),
            account_age_s=3 * DAY_S * rng.random(),
            fingerprint=f"{tag}-naive-card-{number % NAIVE_CARDS}",
            phone_verified=False,
        )
        for number in range(NAIVE_IDENTITIES)
    ]


def _distributed(rng: random.Random, tag: str) -> list[Caller]:
    draw = addresses_of(DISTRIBUTED_NETWORK, rng)
    addresses = [draw() for _ in range(DISTRIBUTED_ADDRESSES)]
    return [
        Caller(
            kind=Kind.DISTRIBUTED,
            user_id=f"{tag}-distributed-{number}",
            address=addresses[number % len(addresses)],
            arrives_s=draw_reaction(rng),
            account_age_s=DISTRIBUTED_AGE_DAYS * DAY_S * rng.random(),
            fingerprint=f"{tag}-distributed-card-{number // DISTRIBUTED_ON_A_CARD}",
            phone_verified=rng.random() < DISTRIBUTED_VERIFIED,
        )
        for number in range(DISTRIBUTED_IDENTITIES)
    ]


def _accounts(rng: random.Random, tag: str) -> list[Caller]:
    draw = addresses_of(DISTRIBUTED_NETWORK, rng)
    return [
        Caller(
            kind=Kind.ACCOUNTS,
            user_id=f"{tag}-account-{number}",
            address=draw(),
            arrives_s=draw_reaction(rng),
            account_age_s=DAY_S * rng.uniform(*ACCOUNTS_AGE_DAYS),
            fingerprint=f"{tag}-account-card-{number}",
            phone_verified=True,
        )
        for number in range(ACCOUNTS_IDENTITIES)
    ]
