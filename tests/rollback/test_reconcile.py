"""The reconciler on real stores: what it finds, what it repairs, and when it does neither."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import rollback_svc.__main__
from devstack import Stores
from devstack.mesh import REPOSITORY_ROOT
from inventory_svc.keys import skus_key, stock_key, users_key
from inventory_svc.stock.hold import format_hold
from inventory_svc.stock.holds import HoldsReader
from inventory_svc.stock.stock import Stock
from rollback_svc.comparison import Repair
from rollback_svc.metrics import FINDING_KINDS
from rollback_svc.reconciler import Reconciler
from rollback_svc.report import Report
from rollback_svc.settings import RollbackSettings
from seckill.errors import SeckillError
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.status import encode_details, reason_of
from seckill.v1 import inventory_pb2, order_pb2, rollback_pb2, rollback_pb2_grpc
from tests.kits.factories import new_id
from tests.kits.inventory import attempt
from tests.kits.keys import until_drained
from tests.kits.reconcile import reconciler_of, writes_of
from tests.kits.recovery import RESERVED, DamagedShop, open_shop, terms_of
from tests.kits.redis_state import empty
from tests.kits.rollback import TIMEOUT_S, free_address, running
from tests.kits.stores import Topics

ORDER_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING
HOLD_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING
HOLD_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED
DELAY_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_DELAY_ENDED
STOCK = rollback_pb2.RECONCILE_FINDING_KIND_STOCK
UNITS = 10


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def compare(
    shop: DamagedShop, sku: str, *, repair: bool = False, restock: bool = False
) -> rollback_pb2.ReconcileResponse:
    """What is found now."""
    reconciler = await reconciler_of(shop)
    word = Repair.ACCOUNTED if repair else Repair.NOTHING
    word |= Repair.RESTOCK if restock else Repair.NOTHING
    return (await reconciler.reconcile(sku, timeout_s=TIMEOUT_S, repair=word)).to_response()


def kinds(response: rollback_pb2.ReconcileResponse) -> Mapping[int, bool]:
    """Kind → whether it was repaired."""
    return {finding.kind: finding.repaired for finding in response.findings}


async def bought(shop: DamagedShop, sku: str, user_id: str, *, quantity: int = 1) -> str:
    """Number of a buyer's order, once the database has it."""
    result = await shop.reserve(sku, user_id, quantity=quantity)
    assert result.outcome == RESERVED
    await shop.written(result.order_no)
    await until_drained(shop.redis, sku)
    return result.order_no


async def forget_hold(shop: DamagedShop, sku: str, user_id: str) -> None:
    """Take a hold out of Redis, and nothing else."""
    assert await shop.redis.hdel(users_key(sku), user_id) == 1


async def test_nothing_is_found_where_nothing_is_wrong(shop: DamagedShop) -> None:
    """Pending, paid, cancelled, restored, restocked and written off: all of them agree."""
    sku = await shop.create(terms_of(UNITS))
    numbers = [await bought(shop, sku, new_id("buyer")) for _ in range(5)]
    for number in numbers[1:4]:
        await shop.pay(number)
    for number, restock in ((numbers[2], True), (numbers[3], False)):
        refund = order_pb2.RefundOrderRequest(
            order_no=number, refund_id=new_id("refund"), restock=restock
        )
        await shop.orders.RefundOrder(refund, timeout=TIMEOUT_S)
    await shop.cancel(numbers[4])
    assert not (await compare(shop, sku)).findings
    assert (await (await shop.sweeper()).run_once(time.time())).ok
    response = await compare(shop, sku, repair=True, restock=True)
    assert (len(response.findings), response.drift_units) == (0, 0)
    assert await shop.stock(sku) == UNITS - 3


async def test_counter_too_high_is_told_and_lowered_on_command(shop: DamagedShop) -> None:
    """A dry run changes nothing; repaired once, there is nothing left to find."""
    sku = await shop.create(terms_of(UNITS))
    await bought(shop, sku, new_id("buyer"))
    await shop.redis.incrby(stock_key(sku), 3)
    told = await compare(shop, sku)
    assert (kinds(told), told.drift_units) == ({STOCK: False}, 3)
    assert told.findings[0].explanation == (
        "The counter in Redis has 12 units on sale, and the total less what is held is 9:"
        " 3 too many."
    )
    assert await shop.stock(sku) == 12
    assert kinds(await compare(shop, sku, repair=True)) == {STOCK: True}
    assert await shop.stock(sku) == 9
    assert not (await compare(shop, sku, repair=True)).findings


async def test_counter_too_low_is_raised_only_with_a_second_word(shop: DamagedShop) -> None:
    """Repair alone never puts units on sale."""
    sku = await shop.create(terms_of(UNITS))
    await shop.redis.decrby(stock_key(sku), 3)
    told = await compare(shop, sku, repair=True)
    assert (kinds(told), told.drift_units, await shop.stock(sku)) == ({STOCK: False}, -3, 7)
    assert kinds(await compare(shop, sku, repair=True, restock=True)) == {STOCK: True}
    assert await shop.stock(sku) == UNITS
    assert not (await compare(shop, sku)).findings


async def test_reservation_that_redis_forgot_is_written_again(shop: DamagedShop) -> None:
    """As after a failover to a replica that lagged: hold and units are taken back together."""
    sku, buyer = await shop.create(terms_of(UNITS, limit=2)), new_id("buyer")
    number = await bought(shop, sku, buyer, quantity=2)
    await forget_hold(shop, sku, buyer)
    await shop.redis.incrby(stock_key(sku), 2)
    told = await compare(shop, sku)
    assert (kinds(told), told.drift_units) == ({STOCK: False, HOLD_MISSING: False}, 2)
    done = await compare(shop, sku, repair=True)
    assert kinds(done) == {STOCK: True, HOLD_MISSING: True}
    assert await shop.stock(sku) == UNITS - 2
    again = await shop.reserve(sku, buyer, quantity=2)
    assert (again.outcome, again.order_no) == (RESERVED, number)


async def test_hold_alone_that_is_gone_is_written_without_touching_the_counter(
    shop: DamagedShop,
) -> None:
    """The counter was right all along."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    await bought(shop, sku, buyer)
    await forget_hold(shop, sku, buyer)
    done = await compare(shop, sku, repair=True)
    assert (kinds(done), done.drift_units) == ({HOLD_MISSING: True}, 0)
    assert await shop.stock(sku) == UNITS - 1
    assert not (await compare(shop, sku)).findings


async def test_hold_of_a_restored_order_is_released_by_itself(shop: DamagedShop) -> None:
    """As after a crash of Redis that lost the release, when the database had noted it."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    number = await bought(shop, sku, buyer)
    await shop.cancel(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    await shop.redis.hset(
        users_key(sku), buyer, format_hold(number, quantity=1, request_id="first")
    )
    await shop.redis.decrby(stock_key(sku), 1)
    told = await compare(shop, sku)
    assert (kinds(told), told.drift_units) == ({STOCK: False, HOLD_ENDED: False}, -1)
    assert await shop.stock(sku) == UNITS - 1
    await (await reconciler_of(shop, rollback_reconcile_releases=False)).run_once()
    assert await shop.stock(sku) == UNITS - 1
    await (await reconciler_of(shop)).run_once()
    assert await shop.stock(sku) == UNITS
    assert not (await compare(shop, sku)).findings


async def test_a_release_returns_no_units_that_come_from_nowhere(shop: DamagedShop) -> None:
    """Three units are missing besides: they stay off sale until an operator says a second word."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    number = await bought(shop, sku, buyer)
    await shop.cancel(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    hold = format_hold(number, quantity=1, request_id="first")
    await shop.redis.hset(users_key(sku), buyer, hold)
    await shop.redis.decrby(stock_key(sku), 1 + 3)
    done = await compare(shop, sku, repair=True)
    assert (kinds(done), done.drift_units) == ({STOCK: False, HOLD_ENDED: True}, -4)
    assert await shop.stock(sku) == UNITS - 3
    # The unit is on sale already: releasing the hold must not add it a second time.
    await shop.redis.hset(users_key(sku), buyer, hold)
    assert kinds(await compare(shop, sku, repair=True)) == {HOLD_ENDED: True, STOCK: False}
    assert await shop.stock(sku) == UNITS - 2
    assert kinds(await compare(shop, sku, repair=True, restock=True)) == {STOCK: True}
    assert await shop.stock(sku) == UNITS


async def test_a_final_order_leaves_the_delay_set(shop: DamagedShop) -> None:
    """As after a crash of Redis that lost the removal: nothing waits for the window's end."""
    sku = await shop.create(terms_of(UNITS))
    number, pending = [await bought(shop, sku, new_id("buyer")) for _ in range(2)]
    await shop.cancel(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    await shop.delay.add({number: time.time() + 3_600})
    assert kinds(await compare(shop, sku)) == {DELAY_ENDED: False}
    await (await reconciler_of(shop, rollback_reconcile_releases=False)).run_once()
    assert await shop.delayed([number, pending]) == {number, pending}
    await (await reconciler_of(shop)).run_once()
    assert await shop.delayed([number, pending]) == {pending}
    assert not (await compare(shop, sku)).findings


async def test_reservation_that_kafka_lost_is_sent_again(shop: DamagedShop) -> None:
    """Its buyer was told RESERVED: they get the order, not a refusal."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    await shop.redis.hset(
        users_key(sku), buyer, format_hold(number, quantity=1, request_id="first")
    )
    await shop.redis.decrby(stock_key(sku), 1)
    assert kinds(await compare(shop, sku)) == {ORDER_MISSING: False}
    await (await reconciler_of(shop, rollback_reconcile_sends=False)).run_once()
    assert kinds(await compare(shop, sku)) == {ORDER_MISSING: False}
    await (await reconciler_of(shop)).run_once()
    order = await shop.written(number)
    assert order is not None
    assert (order.state, order.user_id) == (order_pb2.ORDER_STATE_PENDING, buyer)
    await until_drained(shop.redis, sku)
    assert not (await compare(shop, sku)).findings


@pytest.mark.parametrize("missing_units", [0, 3], ids=["right", "for an operator"])
async def test_a_round_without_work_changes_nothing_and_says_so(
    shop: DamagedShop, missing_units: int
) -> None:
    """Neither Redis nor a count moves, also if something is found that only an operator repairs."""
    sku = await shop.create(terms_of(UNITS))
    number = await bought(shop, sku, new_id("buyer"))
    await bought(shop, sku, new_id("buyer"))
    await shop.cancel(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    await shop.redis.decrby(stock_key(sku), missing_units)
    reconciler = await reconciler_of(shop)

    async def seen() -> tuple[Any, float]:
        counted = sum(
            REGISTRY.get_sample_value("seckill_reconcile_repairs_total", {"kind": kind}) or 0
            for kind in FINDING_KINDS.values()
        )
        return await writes_of(shop, sku), counted

    before = await seen()
    with capture_logs() as logs:
        await reconciler.run_once()
    (told,) = [entry for entry in logs if entry["event"] == "sales compared"]
    findings = int(missing_units > 0)
    assert (told["compared"], told["findings"], told["repaired"]) == (1, findings, 0)
    after, counted = await seen()
    assert (after, counted) == before
    # Nor does the script count a repair that found nothing left to do.
    response = await shop.inventory.RepairHolds(
        inventory_pb2.RepairHoldsRequest(sku=sku, epoch=1), timeout=TIMEOUT_S
    )
    assert (list(response.order_nos), response.stock_change_units) == ([], 0)
    last, _ = await seen()
    assert (last["sale"], last["changes"]) == (after["sale"], after["changes"])


async def test_what_is_younger_than_the_pipeline_is_left_out(shop: DamagedShop) -> None:
    """The same hold without an order is no finding while its order may be on its way."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    await shop.redis.hset(
        users_key(sku), buyer, format_hold(number, quantity=1, request_id="first")
    )
    await shop.redis.decrby(stock_key(sku), 1)
    reconciler = await reconciler_of(shop, clock=SystemClock())
    assert not (await reconciler.reconcile(sku, timeout_s=TIMEOUT_S)).found


async def refusal(reconciler: Reconciler, sku: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """Why it does not compare."""
    with pytest.raises(SeckillError) as caught:
        await reconciler.reconcile(
            sku, timeout_s=timeout_s, repair=Repair.ACCOUNTED | Repair.RESTOCK
        )
    return encode_details(caught.value).decode(errors="replace")


async def test_nothing_is_repaired_while_the_pipeline_stands_still(shop: DamagedShop) -> None:
    """Neither while the outbox waits for Kafka, nor while Kafka waits for the consumers."""
    sku = await shop.create(terms_of(UNITS))
    reconciler = await reconciler_of(shop)
    await shop.redis.incrby(stock_key(sku), 3)
    await shop.redis.srem(skus_key(), sku)  # what no relay knows of stays where it is
    # By the script itself: the service would wake its relay.
    stock = Stock(
        shop.redis,
        clock=SystemClock(),
        rng=random.Random(),
        scripts_max=1,
        waiting_max=1,
        backlog_max=10,
    )
    decided = await stock.reserve(sku, [attempt()], timeout_s=TIMEOUT_S)
    number = decided.results[0].order_no
    said = await refusal(reconciler, sku)
    assert "PIPELINE_BUSY" in said
    assert "wait for kafka" in said
    lock = shop.sql.transaction()
    await lock.start()
    await shop.sql.execute("SELECT FROM sales WHERE sku = $1 FOR UPDATE", sku)
    await shop.redis.sadd(skus_key(), sku)
    await until_drained(shop.redis, sku)
    assert "PIPELINE_BUSY" in await refusal(reconciler, sku, timeout_s=3.0)
    assert await shop.stock(sku) == UNITS + 3 - 1
    await lock.rollback()
    await shop.written(number)
    assert kinds(await compare(shop, sku, repair=True)) == {STOCK: True}
    assert await shop.stock(sku) == UNITS - 1


async def test_repairs_at_the_same_moment_count_once(shop: DamagedShop) -> None:
    """The second is told that another was faster, or finds nothing."""
    sku = await shop.create(terms_of(UNITS))
    await shop.redis.incrby(stock_key(sku), 3)
    replicas = [await reconciler_of(shop) for _ in range(4)]
    results = await asyncio.gather(
        *(
            replica.reconcile(sku, timeout_s=TIMEOUT_S, repair=Repair.ACCOUNTED | Repair.RESTOCK)
            for replica in replicas
        ),
        return_exceptions=True,
    )
    assert any(isinstance(result, Report) for result in results)
    assert all(isinstance(result, Report | SeckillError) for result in results)
    assert await shop.stock(sku) == UNITS


async def test_reservations_go_on_while_a_sale_is_repaired(shop: DamagedShop) -> None:
    """What is bought between the look and the repair is neither lost nor counted twice."""
    sku = await shop.create(terms_of(100))
    await shop.redis.incrby(stock_key(sku), 7)
    reconciler = await reconciler_of(shop)
    buying = asyncio.gather(*(shop.reserve(sku, new_id("buyer")) for _ in range(20)))
    repaired = False
    while not repaired:
        try:
            report = await reconciler.reconcile(sku, timeout_s=TIMEOUT_S, repair=Repair.SELL_LESS)
            repaired = report.stock_repaired
        except SeckillError:
            assert await shop.stock(sku) >= 80
    await buying
    assert await shop.stock(sku) == 80


async def test_sale_with_too_many_holds_is_not_compared(shop: DamagedShop) -> None:
    """Memory is bounded; the refusal says so."""
    sku = await shop.create(terms_of(UNITS))
    await bought(shop, sku, new_id("buyer"))
    await bought(shop, sku, new_id("buyer"))
    reconciler = await reconciler_of(shop, holds_max=1)
    assert "more than 1 holds" in await refusal(reconciler, sku)


@pytest.mark.parametrize("repairs", [True, False])
async def test_all_sales_are_compared_by_themselves_and_metrics_tell(
    shop: DamagedShop, repairs: bool
) -> None:
    """Drift of several sales does not cancel out, and lost sales are left alone.

    What is too high is repaired unless a setting forbids it, and never what is too low.
    """
    high, low, lost = [await shop.create(terms_of(UNITS)) for _ in range(3)]
    await shop.redis.incrby(stock_key(high), 3)
    await shop.redis.decrby(stock_key(low), 2)
    await shop.redis.delete(stock_key(lost))
    reconciler = await reconciler_of(shop, rollback_reconcile_repairs=repairs)
    assert await reconciler.run_once() == 2
    assert REGISTRY.get_sample_value("seckill_lost_sales_count") == 1

    def drift(direction: str) -> float | None:
        return REGISTRY.get_sample_value("seckill_reconcile_drift_units", {"direction": direction})

    assert (drift("too_many"), drift("too_few")) == (3, 2)
    high_now = UNITS if repairs else UNITS + 3
    assert (await shop.stock(high), await shop.stock(low)) == (high_now, UNITS - 2)
    await shop.redis.set(stock_key(high), UNITS)
    await reconciler.run_once()
    assert (drift("too_many"), drift("too_few")) == (0, 2)


async def test_an_operator_reconciles_and_rebuilds_from_the_command_line(
    shop: DamagedShop, redis_url: str
) -> None:
    """`seckill reconcile` tells, repairs and exits accordingly; `seckill sale rebuild` loads."""
    sku, address = await shop.create(terms_of(UNITS)), free_address()
    settings = RollbackSettings.model_validate(
        {
            "profile": "development",
            "redis_url": redis_url,
            "rollback_listen": address,
            "order_target": f"dns:///{shop.orders_address}",
            "inventory_target": f"dns:///{shop.inventory_address}",
            "rollback_reconcile_repairs": False,
            "drain_timeout_s": 1.0,
        }
    )

    async def seckill(*words: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "seckill_cli", *words),
            cwd=REPOSITORY_ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode, " ".join(output.decode().split())

    async with running(rollback_svc.__main__.serve, settings, address=address):
        where = ("--rollback", address)
        code, said = await seckill("reconcile", sku, *where)
        assert (code, said) == (0, f"{sku}: Redis and the database agree")
        await shop.redis.incrby(stock_key(sku), 3)
        code, said = await seckill("reconcile", sku, *where)
        assert code == 1
        assert "3 too many" in said
        assert (await seckill("reconcile", sku, "--repair", *where))[0] == 0
        assert (await seckill("reconcile", sku, *where))[0] == 0
        await shop.lose(sku)
        code, said = await seckill("reconcile", sku, *where)
        assert code == 1
        assert "SALE_NOT_LOADED" in said
        code, said = await seckill("sale", "rebuild", sku, "--inventory", shop.inventory_address)
        assert code == 0, said
        assert sku in said
        other = await shop.create(terms_of(UNITS))
        await empty(shop.redis)
        listed = ("sale", "list", "--inventory", shop.inventory_address)
        code, said = await seckill(*listed)
        assert code == 0
        assert said.endswith(
            f"`seckill sale rebuild --lost` loads: {' '.join(sorted((sku, other)))}"
        )
        lost = ("sale", "rebuild", "--lost", "--inventory", shop.inventory_address)
        code, said = await seckill(*lost)
        assert code == 0, said
        assert (await shop.stock(sku), await shop.stock(other)) == (UNITS, UNITS)
        assert "lost" not in (await seckill(*listed))[1]
        channel = await shop.channel(address)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rollback_pb2_grpc.RollbackServiceStub(channel).Reconcile(
                rollback_pb2.ReconcileRequest(sku=sku, repair_restock=True), timeout=TIMEOUT_S
            )
        assert reason_of(caught.value) == "INVALID_FIELD"


async def test_lists_of_holds_say_whether_they_are_of_one_moment(shop: DamagedShop) -> None:
    """A reservation that comes between makes the list worthless, and the list says so."""
    sku = await shop.create(terms_of(2_000))
    items = [
        inventory_pb2.ReserveItem(user_id=f"buyer-{n}", request_id="r", quantity=1)
        for n in range(1_000)
    ]
    for part in (items[:600], items[600:]):
        await shop.inventory.BatchReserve(
            inventory_pb2.BatchReserveRequest(sku=sku, items=part), timeout=TIMEOUT_S
        )

    async def read(*, disturbed: bool) -> tuple[set[str], bool]:
        seen: set[str] = set()
        async for part in HoldsReader(shop.redis).read(sku):
            seen |= {hold.user_id for hold in part.holds}
            if part.HasField("summary"):
                return seen, part.summary.consistent
            if disturbed:
                await shop.reserve(sku, new_id("buyer"))
        raise AssertionError("no summary came")

    seen, consistent = await read(disturbed=False)
    assert (len(seen), consistent) == (1_000, True)
    assert not (await read(disturbed=True))[1]
