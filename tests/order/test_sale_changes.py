"""Changes of sales in the database: each is a fact with its event, and races end in one state."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from order_svc.audit.audit import SaleAuditor
from order_svc.db.statements import statement
from order_svc.events.messages import attributes_of, event_of
from order_svc.sales.changes import ADDITIONS_MAX, SaleChanges
from seckill.errors import InvalidField, SaleNotFound, SaleStateConflict
from seckill.v1 import events_pb2, order_pb2, sale_pb2
from seckill.validation import UNITS_MAX
from tests.kits.factories import moment
from tests.kits.order_store import PRICE, Store, reservations, terms

OPEN, CLOSED = sale_pb2.SALE_STATE_OPEN, sale_pb2.SALE_STATE_CLOSED


def addition(sku: str, units: int = 5, addition_id: str = "") -> order_pb2.AddUnitsRequest:
    """A request with an id of its own, or with this one."""
    return order_pb2.AddUnitsRequest(
        sku=sku, units=units, addition_id=addition_id or uuid.uuid4().hex
    )


def schedule(
    sku: str, revision: int, *, state: sale_pb2.SaleState.ValueType = OPEN, ends_in_s: float = 7_200
) -> order_pb2.RecordSaleRequest:
    """What inventory records of a sale that began a minute ago."""
    return order_pb2.RecordSaleRequest(
        sku=sku, revision=revision, state=state, start_time=moment(-60), end_time=moment(ends_in_s)
    )


async def later(store: Store) -> str:
    """A sale that starts in half an hour."""
    wanted = terms(f"sku-{uuid.uuid4().hex}")
    wanted.start_time.CopyFrom(moment(1_800))
    await store.sales.register(wanted)
    return wanted.sku


async def total(store: Store, sku: str) -> int:
    """Units for sale."""
    return int(await store.sql.fetchval("SELECT total FROM sales WHERE sku = $1", sku))


def fields_of(error: pytest.ExceptionInfo[InvalidField]) -> list[str]:
    """The fields that a refusal names."""
    return [field for field, _ in error.value.violations]


async def test_addition_is_on_sale_on_the_ledger_and_on_record_once(store: Store) -> None:
    """Also if many state it at once; other units under its id are refused, naming the field."""
    sku = await store.sale(total=2)
    changes = SaleChanges(store.database)
    request = addition(sku, 5, "batch-7")
    answers = await asyncio.gather(
        *(changes.add_units(request, operator="olga") for _ in range(20))
    )
    assert sum(answer.added for answer in answers) == 1
    assert {answer.sale.terms.total_units for answer in answers} == {7}
    assert await total(store, sku) == 7
    with pytest.raises(InvalidField) as caught:
        await changes.add_units(addition(sku, 6, "batch-7"), operator="olga")
    assert fields_of(caught) == ["units"]
    (change,) = await changes.page(sku, after=0, limit=10)
    assert (change.operator, change.addition_id, change.added_units) == ("olga", "batch-7", 5)
    assert (change.before.total_units, change.after.total_units) == (2, 7)
    # The same id may name an addition to another sale.
    other = await store.sale(total=1)
    assert (await changes.add_units(addition(other, 1, "batch-7"), operator="")).added


async def test_added_units_are_sold_and_the_ledger_proves_it(store: Store) -> None:
    """Additions race with orders: no moment has more sold than were there, and none is left out."""
    sku = await store.sale(total=10)
    changes = SaleChanges(store.database)
    batches = [store.writer.write(reservations(sku, 5)) for _ in range(6)]
    added = [changes.add_units(addition(sku, 4), operator="") for _ in range(4)]
    await asyncio.gather(*batches, *added)
    assert await total(store, sku) == 26
    await store.pending(sku, 26 - (await store.facts(sku))["sold"])
    audit = await SaleAuditor(store.database, orders_max=1_000).audit(sku)
    assert audit.wrong is None
    assert (audit.replay.loaded, audit.replay.out, len(audit.changes)) == (26, 26, 4)


async def test_additions_are_refused_by_a_sale_that_sells_no_more_or_has_too_many(
    store: Store,
) -> None:
    """Closed, over, unknown, at the bounds; but an addition on record keeps its answer."""
    changes = SaleChanges(store.database)
    sku = await store.sale(total=1)
    known = addition(sku)
    await changes.add_units(known, operator="")
    with pytest.raises(InvalidField) as caught:
        await changes.add_units(addition(sku, UNITS_MAX - 5), operator="")
    assert fields_of(caught) == ["units"]
    await changes.record(schedule(sku, 1, state=CLOSED), operator="")
    with pytest.raises(SaleStateConflict):
        await changes.add_units(addition(sku), operator="")
    assert not (await changes.add_units(known, operator="")).added
    over = await store.sale(total=1)
    await changes.record(schedule(over, 1, ends_in_s=-1), operator="")
    with pytest.raises(SaleStateConflict, match="over"):
        await changes.add_units(addition(over), operator="")
    with pytest.raises(SaleNotFound):
        await changes.add_units(addition("no-such-sale"), operator="")
    full = await store.sale(total=1)
    await store.sql.execute(
        "INSERT INTO sale_changes (sku, operator, before, after, addition_id, added_units)"
        " SELECT $1, '', '{}', '{}', n::text, 1 FROM generate_series(1, $2::int) n",
        full,
        ADDITIONS_MAX,
    )
    with pytest.raises(SaleStateConflict, match="additions"):
        await changes.add_units(addition(full), operator="")


async def test_title_and_price_change_until_the_sale_starts(store: Store) -> None:
    """Each change is on record once; orders made later have the new price."""
    changes = SaleChanges(store.database)
    sku = await later(store)
    request = order_pb2.ChangeTermsRequest(sku=sku, title="A teapot")
    request.unit_price.CopyFrom(sale_pb2.Money(currency="EUR", minor_units=500))
    for _ in range(2):
        sale = await changes.change_terms(request, operator="olga")
    assert (sale.terms.title, sale.terms.unit_price.minor_units) == ("A teapot", 500)
    assert sale.terms_revision == 1
    (change,) = await changes.page(sku, after=0, limit=10)
    assert (change.before.title, change.after.title) == ("A kettle", "A teapot")
    assert change.before.unit_price.minor_units == PRICE
    started = datetime.now(UTC) - timedelta(seconds=1)
    await store.sql.execute("UPDATE sales SET starts_at = $2 WHERE sku = $1", sku, started)
    # What is said again changes nothing, so it is answered also after the start.
    assert (await changes.change_terms(request, operator="")).terms_revision == 1
    request.title = "A cup"
    request.unit_price.minor_units = 1
    with pytest.raises(InvalidField) as caught:
        await changes.change_terms(request, operator="")
    assert fields_of(caught) == ["title", "unit_price"]


async def test_price_stands_once_a_unit_was_sold(store: Store) -> None:
    """Also if the start was moved into the future since; a sale without a start has started."""
    changes = SaleChanges(store.database)
    sold = await later(store)
    await store.pending(sold, 1)
    for sku in (sold, await store.sale()):
        request = order_pb2.ChangeTermsRequest(sku=sku)
        request.unit_price.CopyFrom(sale_pb2.Money(currency="EUR", minor_units=1))
        with pytest.raises(InvalidField) as caught:
            await changes.change_terms(request, operator="")
        assert fields_of(caught) == ["unit_price"]
    assert await store.sql.fetchval("SELECT amount_minor FROM orders") == PRICE


async def test_sale_is_registered_again_under_its_first_terms(store: Store) -> None:
    """After units were added and the title was changed: the same call means the same sale."""
    changes = SaleChanges(store.database)
    wanted = terms(f"sku-{uuid.uuid4().hex}")
    wanted.start_time.CopyFrom(moment(1_800))
    await store.sales.register(wanted)
    await changes.add_units(addition(wanted.sku), operator="")
    await changes.change_terms(
        order_pb2.ChangeTermsRequest(sku=wanted.sku, title="A teapot"), operator=""
    )
    row, created = await store.sales.register(wanted)
    assert (row["title"], row["total"], created) == ("A teapot", 1_005, False)


async def test_state_and_window_are_recorded_by_revision(store: Store) -> None:
    """A late record changes nothing and says so; what does not differ is no change."""
    changes = SaleChanges(store.database)
    sku = await store.sale()
    first, second = schedule(sku, 1), schedule(sku, 2, state=sale_pb2.SALE_STATE_PAUSED)
    assert not (await changes.record(second, operator="olga")).superseded
    late = await changes.record(first, operator="olga")
    assert (late.revision, late.superseded) == (2, True)
    assert not (await changes.record(second, operator="olga")).superseded
    third = schedule(sku, 3)
    third.end_time.CopyFrom(second.end_time)
    third.start_time.CopyFrom(second.start_time)
    await changes.record(third, operator="")
    paused, opened = await changes.page(sku, after=0, limit=10)
    assert paused.after.state == sale_pb2.SALE_STATE_PAUSED
    assert paused.after.HasField("end_time")
    # It started at once; that Redis knows when is no change.
    assert not paused.after.HasField("start_time")
    assert opened.after == sale_pb2.SaleFacts(state=OPEN)
    assert opened.operator == ""


async def test_change_is_an_event_with_its_id(store: Store) -> None:
    """Written with the change, keyed by the sku, the same whenever it is read."""
    sku = await store.sale(total=2)
    await SaleChanges(store.database).add_units(addition(sku, 3, "more"), operator="olga")
    (row,) = await store.sql.fetch(statement("events/take_events"), 10)
    event = event_of(row)
    assert event.type == events_pb2.ORDER_EVENT_TYPE_SALE_CHANGED
    assert not event.HasField("order")
    assert event.sale_change.operator == "olga"
    assert event.sale_change.after.total_units == 5
    attributes = attributes_of(row)
    assert attributes["type"] == "seckill.order.sale_changed.v1"
    assert attributes["id"] == f"{sku}/sale_changed/{event.sale_change.id}"


async def test_record_of_changes_is_append_only(store: Store) -> None:
    """Nobody rewrites what operators did."""
    sku = await store.sale()
    await SaleChanges(store.database).add_units(addition(sku), operator="")
    for attempt in ("UPDATE sale_changes SET operator = 'x'", "DELETE FROM sale_changes"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await store.sql.execute(attempt)
