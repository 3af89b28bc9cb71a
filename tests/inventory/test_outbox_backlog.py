"""How many reservations wait in an outbox: counted by the scripts, on every kind of server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from devstack import ValkeyServer
from inventory_svc.keys import RELAY_GROUP, backlog_key, outbox_key, single_outbox_key
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.holds import HoldsReader
from seckill.errors import Overloaded
from seckill.v1 import inventory_pb2
from tests.kits.factories import sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit, attempt

ORDER_NO = "01JD0Z0000AAAAAAAAAAAAAAAA"
SINGLE = f"{ORDER_NO} 1 1 1700000000000 request buyer"


@pytest.fixture
async def kit(server: ValkeyServer) -> AsyncIterator[StockKit]:
    """Stock that refuses at 50 reservations."""
    kit = StockKit(server.url, backlog_max=50)
    yield kit
    await kit.close()


async def buy(kit: StockKit, sku: str, *counts: int) -> None:
    """Reserve in batches of so many."""
    for count in counts:
        await kit.reserve(sku, *(attempt() for _ in range(count)))


def streams_of(kit: StockKit) -> OutboxStreams:
    """The outboxes as a relay sees them."""
    return OutboxStreams(kit.redis, consumer="test", entries_max=1_000, claim_idle_s=60.0)


async def agree(kit: StockKit, sku: str) -> int:
    """What is counted is what is there."""
    queued = await kit.queued(sku)
    assert await kit.counted(sku) == queued
    return queued


async def test_a_batch_is_one_entry_and_the_cap_counts_its_reservations(kit: StockKit) -> None:
    """Two entries of 25 are a full backlog of 50; a refused batch writes nothing."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 25, 25)
    assert len(await kit.entries(sku)) == 2
    assert await agree(kit, sku) == 50
    with pytest.raises(Overloaded):
        await buy(kit, sku, 1)
    assert (await agree(kit, sku), await kit.left(sku)) == (50, 950)


async def test_attempts_that_reserve_nothing_write_no_entry(kit: StockKit) -> None:
    """A repeated request, and one that is sold out."""
    sku = await kit.load(sale_terms(units=1))
    item = attempt()
    await kit.reserve(sku, item, attempt())
    await kit.reserve(sku, item, attempt())
    assert (len(await kit.entries(sku)), await agree(kit, sku)) == (1, 1)


async def test_removing_entries_makes_room_for_their_reservations(kit: StockKit) -> None:
    """Removed twice, by two relays or after a lost reply, an entry counts once."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 10, 20, 19)
    streams = streams_of(kit)
    first, second, third = await kit.entries(sku)
    await asyncio.gather(streams.remove([first, second]), streams.remove([second, first]))
    assert await agree(kit, sku) == 19
    await streams.remove([third])
    assert await agree(kit, sku) == 0
    assert not await kit.redis.exists(backlog_key(sku))
    await buy(kit, sku, 50)
    assert await agree(kit, sku) == 50


@pytest.mark.parametrize("left", [0, 1, 3])
async def test_trimmed_entries_are_no_longer_counted(kit: StockKit, left: int) -> None:
    """However many are trimmed before they were relayed, what is left is counted again."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 12, 13, 14, 6, 5)
    await kit.redis.xtrim(outbox_key(sku), maxlen=left, approximate=False)
    await buy(kit, sku, *([] if left else [7]))
    await streams_of(kit).backlog([outbox_key(sku)])
    assert await agree(kit, sku) == {0: 7, 1: 5, 3: 25}[left]
    await buy(kit, sku, 10)
    assert await agree(kit, sku) == {0: 17, 1: 15, 3: 35}[left]


async def test_trimmed_entries_that_a_relay_has_read_are_subtracted_once(kit: StockKit) -> None:
    """It acknowledges what it finds gone, and what is left is counted again."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 20, 10, 5)
    await kit.redis.xreadgroup(RELAY_GROUP, "test", {outbox_key(sku): ">"})
    gone, second, _ = await kit.entries(sku)
    await kit.redis.xtrim(outbox_key(sku), maxlen=2, approximate=False)
    streams = streams_of(kit)
    await streams.remove([gone._replace(payload=None, deleted=True)])
    assert await agree(kit, sku) == 15
    await streams.remove([second])
    assert await agree(kit, sku) == 5
    pending = await kit.redis.xpending(outbox_key(sku), RELAY_GROUP)
    assert pending["pending"] == 1


async def test_entries_that_others_add_have_one_reservation_each(kit: StockKit) -> None:
    """They count at once, and no longer once they are removed."""
    sku = await kit.load(sale_terms(units=1_000))
    await kit.redis.xadd(outbox_key(sku), {"o": SINGLE})
    await buy(kit, sku, 10)
    await kit.redis.xadd(outbox_key(sku), {"o": "garbage"})
    await kit.redis.xadd(outbox_key(sku), {"other": "field"})
    assert await agree(kit, sku) == 13
    await buy(kit, sku, 20)
    streams = streams_of(kit)
    entries = await kit.entries(sku)
    await streams.remove(entries[:3])
    assert await agree(kit, sku) == 21
    await streams.remove(entries[3:])
    assert await agree(kit, sku) == 0


async def test_a_lost_count_is_made_up_for(kit: StockKit) -> None:
    """Without the hash each entry counts as one, until the outbox is empty."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 20, 20)
    await kit.redis.delete(backlog_key(sku))
    assert await kit.counted(sku) == 2
    await buy(kit, sku, 10)
    await streams_of(kit).remove(await kit.entries(sku))
    assert await agree(kit, sku) == 0


async def test_a_repair_sends_a_batch_that_counts(kit: StockKit) -> None:
    """What the reconciler has sent once more is one entry, as reserve.lua writes it."""
    sku = await kit.load(sale_terms(units=1_000))
    items = [attempt() for _ in range(3)]
    results = await kit.reserve(sku, *items)
    before = await kit.entries(sku)
    unsent = [
        inventory_pb2.Hold(
            order_no=order_no, user_id=item.user_id, request_id=item.request_id, quantity=1
        )
        for item, (_, order_no) in zip(items, results, strict=True)
    ]
    request = inventory_pb2.RepairHoldsRequest(sku=sku, epoch=1, unsent=unsent)
    await kit.loader.repair(request, timeout_s=TIMEOUT_S)
    assert await agree(kit, sku) == 6
    _, again = await kit.entries(sku)
    assert again.payload is not None
    assert before[0].payload is not None
    assert again.payload.split(b"\n")[1:] == before[0].payload.split(b"\n")[1:]


async def test_a_sale_loaded_again_keeps_outbox_and_count(kit: StockKit) -> None:
    """A rebuild waits for it to drain, and must not forget what is in it."""
    terms = sale_terms(units=1_000)
    sku = await kit.load(terms)
    await buy(kit, sku, 10, 20)
    await kit.redis.delete(f"seckill:stock:{{{sku}}}")
    await kit.loader.load(sku, to_fields(terms, now_ms=0), epoch=2, units=970, timeout_s=TIMEOUT_S)
    assert await agree(kit, sku) == 30


async def test_the_outbox_of_an_older_version_is_shown_and_removed_without_the_count(
    kit: StockKit,
) -> None:
    """Its entries are reservations that wait, and none of those that are counted."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 10)
    await kit.redis.xadd(single_outbox_key(sku), {"o": SINGLE})
    parts = [part async for part in HoldsReader(kit.redis).read(sku)]
    assert parts[-1].summary.outbox_entries == 11
    streams = streams_of(kit)
    outboxes = [outbox_key(sku), single_outbox_key(sku)]
    assert (await streams.backlog(outboxes)).total == 11
    await streams.remove([one for one in await kit.entries(sku) if not one.batch])
    assert (await streams.backlog(outboxes)).reservations == {outboxes[0]: 10, outboxes[1]: 0}


async def test_a_full_redis_lets_entries_go(kit: StockKit) -> None:
    """What Kafka has can be removed at maxmemory."""
    sku = await kit.load(sale_terms(units=1_000))
    await buy(kit, sku, 10, 20)
    first, _ = await kit.entries(sku)
    await kit.redis.config_set("maxmemory", "1")
    try:
        await streams_of(kit).remove([first])
    finally:
        await kit.redis.config_set("maxmemory", "0")
    assert await agree(kit, sku) == 20
