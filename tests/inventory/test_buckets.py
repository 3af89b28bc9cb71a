"""A sale in several buckets on one Redis: homes, borrowing, what is sold out, and what is left."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from devstack import ValkeyServer
from inventory_svc.keys import buckets_key, outbox_key, stock_key, transfers_key
from seckill.buckets import home_of
from seckill.errors import DependencyUnavailable, InvalidField, OutcomeUnknown, SaleNotLoaded
from seckill.runtime.bucket_tags import tags_of
from seckill.v1 import inventory_pb2
from seckill.validation import check_terms
from tests.kits.buckets import BucketKit, buyer_at
from tests.kits.factories import sale_terms
from tests.kits.inventory import attempt

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
ALREADY = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
BUCKETS = 4
HOMES = [3, 0, 3, 0]


@pytest.fixture
async def kit(server: ValkeyServer) -> AsyncIterator[BucketKit]:
    """Stock on that server."""
    kit = BucketKit(server.url)
    yield kit
    await kit.close()


def test_homes_never_change() -> None:
    """What a buyer holds is found in their home, by every release to come."""
    assert [home_of(user, 4) for user in ("alice", "bob", "carol", "dave")] == HOMES
    assert home_of("alice", 1) == 0


def test_tags_never_change_and_no_sku_is_one() -> None:
    """A sale of one bucket has the keys that it always had; four have one in each quarter."""
    assert tags_of("x", 1) == ("x",)
    assert tags_of("a", 4) == ("a/0.0", "a/1.2", "a/2.0", "a/3.2")


@pytest.mark.parametrize("buckets", [-1, 65])
def test_a_number_of_buckets_out_of_bounds_is_refused_by_its_name(buckets: int) -> None:
    """The error names the field."""
    terms = sale_terms()
    terms.buckets = buckets
    with pytest.raises(InvalidField, match=r"terms\.buckets"):
        check_terms(terms)


async def test_every_unit_is_sold_once_and_sold_out_is_told_to_the_others(kit: BucketKit) -> None:
    """More buyers than units, at once: all units are sold, no matter which home had them."""
    sku = await kit.load(sale_terms(units=37), buckets=BUCKETS)
    batches = [[attempt() for _ in range(20)] for _ in range(10)]

    answers = await asyncio.gather(*(kit.reserve(sku, *batch) for batch in batches))

    outcomes = Counter(outcome for answer in answers for outcome, _ in answer)
    assert outcomes == {RESERVED: 37, SOLD_OUT: 163}
    assert await kit.units(sku) == [0] * BUCKETS
    (sale,) = await kit.sales.read([sku])
    assert (sale.sold_out, sale.remaining_units, sale.terms.buckets) == (True, 0, BUCKETS)


async def test_buyers_of_one_home_get_the_units_of_all(kit: BucketKit) -> None:
    """An empty home borrows, as long as any bucket has units."""
    sku = await kit.load(sale_terms(units=40), buckets=BUCKETS)

    answers = await kit.reserve(sku, *(attempt(buyer_at(2, BUCKETS)) for _ in range(45)))

    assert Counter(outcome for outcome, _ in answers) == {RESERVED: 40, SOLD_OUT: 5}
    assert await kit.units(sku) == [0] * BUCKETS


async def test_units_are_borrowed_in_blocks(kit: BucketKit) -> None:
    """Half of what a neighbour has comes at once, not unit by unit."""
    sku = await kit.load(sale_terms(units=400), buckets=BUCKETS)
    buyers = [buyer_at(0, BUCKETS) for _ in range(101)]

    await kit.reserve(sku, *(attempt(buyer) for buyer in buyers))

    assert await kit.units(sku) == [49, 50, 100, 100]


async def test_a_large_attempt_gathers_from_several_buckets(kit: BucketKit) -> None:
    """Ten units are sold to one buyer although no bucket has more than three."""
    sku = await kit.load(sale_terms(units=12, limit=10), buckets=BUCKETS)

    answers = await kit.reserve(sku, attempt(quantity=10))
    late = await kit.reserve(sku, attempt(quantity=3), attempt(quantity=2))

    assert [outcome for outcome, _ in answers] == [RESERVED]
    assert [outcome for outcome, _ in late] == [SOLD_OUT, RESERVED]
    assert sum(await kit.units(sku)) == 0


async def test_large_attempts_of_all_homes_do_not_take_turns_for_ever(kit: BucketKit) -> None:
    """Who gathers at the same time takes units from each other, and somebody gets them."""
    sku = await kit.load(sale_terms(units=12, limit=12), buckets=BUCKETS)
    items = [attempt(buyer_at(home, BUCKETS), quantity=7) for home in range(BUCKETS)]

    answers = await asyncio.gather(*(kit.reserve(sku, item) for item in items))

    assert Counter(answer[0][0] for answer in answers) == {RESERVED: 1, SOLD_OUT: 3}
    assert sum(await kit.units(sku)) == 5


async def test_answers_come_in_the_order_of_the_attempts(kit: BucketKit) -> None:
    """Each caller gets their own order's number, whichever bucket made it."""
    sku = await kit.load(sale_terms(units=100), buckets=BUCKETS)
    items = [attempt() for _ in range(50)]

    first = await kit.reserve(sku, *items)
    again = await kit.reserve(sku, *reversed(items))

    assert again == first[::-1]
    assert len({order_no for _, order_no in first}) == 50


async def test_one_buyer_buys_once(kit: BucketKit) -> None:
    """A second attempt names the first one's order."""
    sku = await kit.load(sale_terms(units=100), buckets=BUCKETS)
    buyer = buyer_at(1, BUCKETS)

    ((_, order_no),) = await kit.reserve(sku, attempt(buyer))

    assert await kit.reserve(sku, attempt(buyer)) == [(ALREADY, order_no)]


async def test_units_that_come_back_are_sold_to_buyers_of_another_home(kit: BucketKit) -> None:
    """They come back to their buyer's home, and a thirsty bucket borrows them."""
    sku = await kit.load(sale_terms(units=8), buckets=BUCKETS)
    buyers = [buyer_at(3, BUCKETS) for _ in range(8)]
    sold = await kit.reserve(sku, *(attempt(buyer) for buyer in buyers))
    (sale,) = await kit.sales.read([sku])
    assert sale.sold_out

    assert await kit.release(sku, (sold[0][1], buyers[0])) == [1]

    (sale,) = await kit.sales.read([sku])
    assert (sale.sold_out, sale.remaining_units) == (False, 1)
    ((outcome, _),) = await kit.reserve(sku, attempt(buyer_at(0, BUCKETS)))
    assert outcome == RESERVED
    assert await kit.release(sku, (sold[0][1], buyers[0])) == [0]


async def test_a_transfer_that_was_left_in_the_middle_is_finished_by_the_next_buyer(
    kit: BucketKit,
) -> None:
    """Units on their way are neither sold out nor lost, whichever step was the last one."""
    sku = await kit.load(sale_terms(units=4), buckets=BUCKETS)
    tags = tags_of(sku, BUCKETS)
    await kit.step_lend(tags, 1, 2)
    lent = await kit.step_lend(tags, 3, 0)
    await kit.step_take(tags, 3, 0, lent)
    assert await kit.units(sku) == [2, 0, 1, 0]
    (sale,) = await kit.sales.read([sku])
    assert (sale.sold_out, sale.remaining_units) == (False, 4)

    answers = await kit.reserve(sku, *(attempt(buyer_at(0, BUCKETS)) for _ in range(5)))

    assert [outcome for outcome, _ in answers] == [RESERVED] * 4 + [SOLD_OUT]
    # Repeating a step of a transfer that is over changes nothing.
    await kit.step_take(tags, 3, 0, lent)
    assert await kit.units(sku) == [0] * BUCKETS


async def test_nothing_is_told_as_sold_out_while_a_bucket_is_lost(kit: BucketKit) -> None:
    """Its units may be left: buyers come again once the sale is rebuilt."""
    sku = await kit.load(sale_terms(units=4), buckets=BUCKETS)
    await kit.redis.delete(stock_key(tags_of(sku, BUCKETS)[1]))

    with pytest.raises(OutcomeUnknown):
        await kit.reserve(sku, *(attempt(buyer_at(0, BUCKETS)) for _ in range(4)))
    with pytest.raises(SaleNotLoaded):
        await kit.reserve(sku, attempt(buyer_at(0, BUCKETS)))

    (sale,) = await kit.sales.read([sku])
    assert not sale.loaded


async def test_units_of_an_epoch_that_is_over_are_not_taken(kit: BucketKit) -> None:
    """A rebuild has dealt out all units: one that was on its way would be one too many."""
    sku = await kit.load(sale_terms(units=4), buckets=BUCKETS)
    tags = tags_of(sku, BUCKETS)
    lent = await kit.step_lend(tags, 1, 0)
    for tag in tags:
        assert await kit.loader.bar(tag, epoch=2, timeout_s=5.0)
    await kit.load_buckets(sku, sale_terms(units=4, sku=sku), buckets=BUCKETS, epoch=2)

    await kit.step_take(tags, 1, 0, lent)

    assert await kit.units(sku) == [1] * BUCKETS


async def test_a_bucket_is_not_loaded_under_an_epoch_that_is_barred(kit: BucketKit) -> None:
    """A rebuild that was overtaken loads nothing beside the later one."""
    sku = await kit.load(sale_terms(units=4), buckets=BUCKETS)
    tags = tags_of(sku, BUCKETS)
    assert await kit.loader.bar(tags[0], epoch=3, timeout_s=5.0)

    assert not await kit.loader.bar(tags[0], epoch=2, timeout_s=5.0)
    terms = sale_terms(units=4, sku=sku)
    assert await kit.load_buckets(sku, terms, buckets=BUCKETS, epoch=2) == [False] * BUCKETS
    assert await kit.redis.hget(transfers_key(tags[0]), "floor") == b"3"


async def test_a_replica_learns_of_buckets_when_it_needs_to(kit: BucketKit) -> None:
    """Another replica has created the sale: the keys of the sku are not there."""
    sku = await kit.load(sale_terms(units=4), buckets=BUCKETS)
    other = BucketKit(kit.url)

    ((outcome, _),) = await other.reserve(sku, attempt())
    await kit.redis.hdel(buckets_key(), sku)
    ((again, _),) = await other.reserve(sku, attempt())

    assert (outcome, again) == (RESERVED, RESERVED)
    await other.close()


async def test_without_the_list_of_buckets_no_sale_is_told_as_lost_and_others_are_read(
    kit: BucketKit,
) -> None:
    """It is one key: in a cluster its node may be away while sales are on others."""
    sku, other = await kit.load(sale_terms(), buckets=1), await kit.load(sale_terms(), buckets=2)
    newcomer = BucketKit(kit.url)
    # HMGET fails, as it does on a node that is away.
    await kit.redis.delete(buckets_key())
    await kit.redis.set(buckets_key(), "damaged")

    read = await newcomer.sales.read([sku, other], reachable_only=True)

    assert [(sale.terms.sku, sale.loaded) for sale in read] == [(sku, True)]
    with pytest.raises(DependencyUnavailable):
        await newcomer.sales.read([other])
    await kit.redis.delete(buckets_key())
    await newcomer.close()


async def test_a_purchase_of_a_sale_of_one_bucket_costs_what_it_did(kit: BucketKit) -> None:
    """One script with the commands that it always had: buckets are paid by sales that have them."""
    sku = await kit.load(sale_terms(units=10), buckets=1)
    assert await kit.redis.exists(outbox_key(sku)) == 1
    await kit.reserve(sku, attempt())
    before = await kit.commands()

    await kit.reserve(sku, attempt(), attempt())

    after = await kit.commands()
    assert {name: more for name in after if (more := after[name] - before.get(name, 0))} == {
        "evalsha": 1,
        "info": 1,
        "hmget": 3,
        "get": 1,
        "xlen": 1,
        "time": 1,
        "xadd": 1,
        "hset": 2,
        "decrby": 1,
    }


async def test_interleaved_attempts_and_returns_conserve_units(kit: BucketKit) -> None:
    """Buyers of all homes, returns, two replicas: no unit is lost, doubled or stranded."""
    rng = random.Random(7)
    units = 30
    sku = await kit.load(sale_terms(units=units, limit=3), buckets=BUCKETS)
    other = BucketKit(kit.url)
    held: dict[str, tuple[str, int]] = {}

    async def shop(replica: BucketKit) -> None:
        for _ in range(40):
            if held and rng.random() < 0.4:
                user, (order_no, _) = held.popitem()
                await replica.release(sku, (order_no, user))
            else:
                item = attempt(quantity=rng.randint(1, 3))
                ((outcome, order_no),) = await replica.reserve(sku, item)
                if outcome == RESERVED:
                    held[item.user_id] = order_no, item.quantity

    await asyncio.gather(*(shop(replica) for replica in (kit, other, kit, other)))

    free = units - sum(quantity for _, quantity in held.values())
    assert sum(await kit.units(sku)) == free
    answers = await kit.reserve(sku, *(attempt(buyer_at(1, BUCKETS)) for _ in range(free + 1)))
    assert [outcome for outcome, _ in answers] == [RESERVED] * free + [SOLD_OUT]
    await other.close()
