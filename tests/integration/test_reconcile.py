"""The reconciler on real stores: what it finds, what it repairs, and when it does neither."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping

import grpc
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

import rollback_svc.__main__
from deploy.local import Stores
from deploy.local.mesh import REPOSITORY_ROOT
from inventory_svc.holds import HoldsReader
from inventory_svc.keys import SKUS, queue_key, stock_key, users_key
from inventory_svc.stock import Stock
from rollback_svc.books import Books
from rollback_svc.comparison import Repair
from rollback_svc.reconciler import Reconciler, Report
from rollback_svc.settings import RollbackSettings
from seckill.clock import SystemClock
from seckill.errors import SeckillError, encode_details, reason_of
from seckill.order_no import make_order_nos
from seckill.v1 import inventory_pb2, order_pb2, rollback_pb2, rollback_pb2_grpc
from tests.conftest import Topics
from tests.factories import new_id
from tests.inventory_kit import attempt
from tests.rollback_kit import TIMEOUT_S, free_address, running
from tests.upkeep_kit import RESERVED, DamagedShop, open_shop, terms_of
from tests.waiting import eventually

ORDER_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING
HOLD_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING
HOLD_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED
STOCK = rollback_pb2.RECONCILE_FINDING_KIND_STOCK
UNITS = 10
LATER_S = 60.0


class LaterClock(SystemClock):
    """So far ahead that nothing is young."""

    def now_s(self) -> float:
        return super().now_s() + LATER_S


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory stages, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def reconciler_of(
    shop: DamagedShop,
    *,
    clock: SystemClock | None = None,
    holds_max: int = 1_000,
    repairs: bool = True,
) -> Reconciler:
    """A replica of the reconciler, for whom a minute has passed unless told otherwise."""
    return Reconciler(
        Books(
            to_orders=await shop.channel(shop.orders_address),
            to_inventory=await shop.channel(shop.inventory_address),
            holds_max=holds_max,
        ),
        settings=RollbackSettings(
            redis_url=SecretStr("redis://unused"), rollback_reconcile_repairs=repairs
        ),
        clock=clock or LaterClock(),
    )


async def compare(
    shop: DamagedShop, sku: str, *, repair: bool = False, restock: bool = False
) -> rollback_pb2.ReconcileResponse:
    """What is found now."""
    reconciler = await reconciler_of(shop)
    word = Repair.RESTOCK if restock else Repair.SEND_AGAIN if repair else Repair.NOTHING
    return (await reconciler.reconcile(sku, timeout_s=TIMEOUT_S, repair=word)).to_response()


def kinds(response: rollback_pb2.ReconcileResponse) -> Mapping[int, bool]:
    """Kind → whether it was repaired."""
    return {finding.kind: finding.repaired for finding in response.findings}


async def bought(shop: DamagedShop, sku: str, user_id: str, *, quantity: int = 1) -> str:
    """Number of a buyer's order, once the database has it."""
    result = await shop.reserve(sku, user_id, quantity=quantity)
    assert result.outcome == RESERVED
    await eventually(lambda: shop.order(result.order_no))
    await eventually(lambda: shop.redis.xlen(queue_key(sku)), lambda length: length == 0)
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


async def test_hold_of_a_restored_order_is_released_only_with_a_second_word(
    shop: DamagedShop,
) -> None:
    """As after a crash of Redis that lost the release, when the database had noted it."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    number = await bought(shop, sku, buyer)
    await shop.cancel(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    await shop.redis.hset(users_key(sku), buyer, f"{number} 1 first")
    await shop.redis.decrby(stock_key(sku), 1)
    told = await compare(shop, sku, repair=True)
    assert (kinds(told), told.drift_units) == ({STOCK: False, HOLD_ENDED: False}, -1)
    assert await shop.stock(sku) == UNITS - 1
    done = await compare(shop, sku, repair=True, restock=True)
    assert kinds(done) == {STOCK: True, HOLD_ENDED: True}
    assert await shop.stock(sku) == UNITS
    assert not (await compare(shop, sku)).findings


async def test_reservation_that_kafka_lost_is_sent_again(shop: DamagedShop) -> None:
    """Its buyer was told RESERVED: he gets the order, not a refusal."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    await shop.redis.hset(users_key(sku), buyer, f"{number} 1 first")
    await shop.redis.decrby(stock_key(sku), 1)
    assert kinds(await compare(shop, sku)) == {ORDER_MISSING: False}
    # Not by itself: whatever keeps it from becoming an order would keep it again, every minute.
    await (await reconciler_of(shop)).run_once()
    assert kinds(await compare(shop, sku)) == {ORDER_MISSING: False}
    assert kinds(await compare(shop, sku, repair=True)) == {ORDER_MISSING: True}
    order = await eventually(lambda: shop.order(number))
    assert order is not None
    assert (order.state, order.user_id) == (order_pb2.ORDER_STATE_PENDING, buyer)
    await eventually(lambda: shop.redis.xlen(queue_key(sku)), lambda length: length == 0)
    assert not (await compare(shop, sku)).findings


async def test_what_is_younger_than_the_pipeline_is_left_out(shop: DamagedShop) -> None:
    """The same hold without an order is no finding while its order may be on its way."""
    sku, buyer = await shop.create(terms_of(UNITS)), new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    await shop.redis.hset(users_key(sku), buyer, f"{number} 1 first")
    await shop.redis.decrby(stock_key(sku), 1)
    reconciler = await reconciler_of(shop, clock=SystemClock())
    assert not (await reconciler.reconcile(sku, timeout_s=TIMEOUT_S)).found


async def refusal(reconciler: Reconciler, sku: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """Why it does not compare."""
    with pytest.raises(SeckillError) as caught:
        await reconciler.reconcile(sku, timeout_s=timeout_s, repair=Repair.RESTOCK)
    return encode_details(caught.value).decode(errors="replace")


async def test_nothing_is_repaired_while_the_pipeline_stands_still(shop: DamagedShop) -> None:
    """Neither while the outbox waits for Kafka, nor while Kafka waits for the consumers."""
    sku = await shop.create(terms_of(UNITS))
    reconciler = await reconciler_of(shop)
    await shop.redis.incrby(stock_key(sku), 3)
    await shop.redis.srem(SKUS, sku)  # what no relay knows of stays where it is
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
    await shop.redis.sadd(SKUS, sku)
    await eventually(lambda: shop.redis.xlen(queue_key(sku)), lambda length: length == 0)
    assert "PIPELINE_BUSY" in await refusal(reconciler, sku, timeout_s=3.0)
    assert await shop.stock(sku) == UNITS + 3 - 1
    await lock.rollback()
    await eventually(lambda: shop.order(number))
    assert kinds(await compare(shop, sku, repair=True)) == {STOCK: True}
    assert await shop.stock(sku) == UNITS - 1


async def test_repairs_at_the_same_moment_count_once(shop: DamagedShop) -> None:
    """Whoever comes second is told that somebody was faster, or finds nothing."""
    sku = await shop.create(terms_of(UNITS))
    await shop.redis.incrby(stock_key(sku), 3)
    replicas = [await reconciler_of(shop) for _ in range(4)]
    results = await asyncio.gather(
        *(
            replica.reconcile(sku, timeout_s=TIMEOUT_S, repair=Repair.RESTOCK)
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
    reconciler = await reconciler_of(shop, repairs=repairs)
    assert await reconciler.run_once() == 2

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
            *("-m", "seckill", *words),
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
