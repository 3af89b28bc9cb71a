"""Constraints of InventoryService's requests."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from inventory_svc.rpc import requests
from inventory_svc.sales.fields import to_fields, to_sale
from seckill.errors import InvalidField
from seckill.v1 import inventory_pb2, sale_pb2
from tests.kits.factories import moment, sale_terms

START_MS = 1_700_000_000_000


def item(
    user_id: str = "buyer", request_id: str = "request", quantity: int = 1
) -> inventory_pb2.ReserveItem:
    """A valid attempt, unless told otherwise."""
    return inventory_pb2.ReserveItem(user_id=user_id, request_id=request_id, quantity=quantity)


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (item(user_id=""), "user_id"),
        (item(user_id="u" * 129), "user_id"),
        (item(user_id="a b"), "user_id"),
        (item(user_id="ü"), "user_id"),
        (item(request_id=""), "request_id"),
        (item(request_id="r" * 65), "request_id"),
        (item(request_id="a\n"), "request_id"),
        (item(quantity=0), "quantity"),
        (item(quantity=-1), "quantity"),
        (item(quantity=1001), "quantity"),
    ],
)
def test_broken_item_is_named_alone_and_in_a_batch(
    broken: inventory_pb2.ReserveItem, field: str
) -> None:
    """The quick check of a whole batch misses nothing that the check of one item finds."""
    with pytest.raises(InvalidField) as alone:
        requests.check_reserve(inventory_pb2.ReserveRequest(sku="sku", item=broken))
    assert [name for name, _ in alone.value.violations] == [f"item.{field}"]
    batch = inventory_pb2.BatchReserveRequest(sku="sku", items=[item(), broken])
    with pytest.raises(InvalidField) as together:
        requests.check_batch(batch)
    assert [name for name, _ in together.value.violations] == [f"items[1].{field}"]


@pytest.mark.parametrize("count", [0, 1025])
def test_batch_size_is_bounded(count: int) -> None:
    """No items, and more than 1,024, are refused."""
    batch = inventory_pb2.BatchReserveRequest(sku="sku", items=[item()] * count)
    with pytest.raises(InvalidField, match="items"):
        requests.check_batch(batch)


def test_largest_valid_items_pass() -> None:
    """Ids of full length and the highest quantity."""
    items = [item("u" * 128, "r" * 64, 1000)] * 1024
    requests.check_batch(inventory_pb2.BatchReserveRequest(sku="sku", items=items))


def test_the_reason_of_the_kill_switch_is_short() -> None:
    """200 characters, or nothing."""
    for reason in ("", "x" * 200):
        requests.check_kill_switch(inventory_pb2.SetKillSwitchRequest(on=True, reason=reason))
    with pytest.raises(InvalidField, match="reason"):
        requests.check_kill_switch(inventory_pb2.SetKillSwitchRequest(reason="x" * 201))


def test_unset_terms_get_their_defaults() -> None:
    """One unit a purchase, 15 minutes to pay; "at once" stays that. The request is unchanged."""
    terms = sale_pb2.SaleTerms(
        sku="sku",
        total_units=1,
        unit_price=sale_pb2.Money(currency="CNY"),
        end_time=moment(3600),
    )
    complete = requests.with_defaults(terms)
    assert complete.purchase_limit == 1
    assert not complete.HasField("start_time")
    assert complete.payment_window.ToSeconds() == 900
    assert not terms.HasField("payment_window")


@pytest.mark.parametrize("field", ["start_time", "end_time"])
@pytest.mark.parametrize(
    "when",
    [Timestamp(seconds=253_402_300_800), Timestamp(nanos=-1), Timestamp(seconds=-1)],
    ids=["the year 10000", "-1 ns", "before 1970"],
)
def test_times_of_an_update_that_are_none_are_refused(field: str, when: Timestamp) -> None:
    """INVALID_ARGUMENT with the field's name."""
    request = inventory_pb2.UpdateSaleRequest(sku="sku")
    getattr(request, field).CopyFrom(when)
    with pytest.raises(InvalidField, match=f"^{field}: "):
        requests.check_update(request)


def test_a_sale_without_a_start_starts_when_it_is_loaded() -> None:
    """At the time given, but never after its end: a rebuilt one may be over."""
    terms = sale_terms()
    terms.ClearField("start_time")
    end_ms = terms.end_time.ToMilliseconds()
    assert to_fields(terms, now_ms=START_MS)["start_ms"] == START_MS
    assert to_fields(terms, now_ms=end_ms + 5)["start_ms"] == end_ms - 1


def test_sale_survives_its_way_through_redis() -> None:
    """What load.lua writes reads as the same terms."""
    terms = requests.with_defaults(sale_terms(limit=3, rebuy_allowed=True))
    fields = {
        name.encode(): str(value).encode() for name, value in to_fields(terms, now_ms=0).items()
    }
    sale = to_sale(terms.sku, {**fields, b"epoch": b"4"}, b"0")
    assert sale.terms == terms
    assert (sale.loaded, sale.sold_out, sale.epoch) == (True, True, 4)
    assert sale.state == sale_pb2.SALE_STATE_OPEN


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (inventory_pb2.RepairHoldsRequest(sku="a", surplus_units=2**63 - 1), "surplus_units"),
        (inventory_pb2.RepairHoldsRequest(sku="a", surplus_units=-(2**63)), "surplus_units"),
        (
            inventory_pb2.RepairHoldsRequest(
                sku="a", missing=[inventory_pb2.Hold()], unsent=[inventory_pb2.Hold()] * 1_024
            ),
            "unsent",
        ),
    ],
)
def test_broken_repair_is_named(request_: inventory_pb2.RepairHoldsRequest, field: str) -> None:
    """A surplus that the script cannot count, and more holds than one step may repair."""
    with pytest.raises(InvalidField) as caught:
        requests.check_repair(request_)
    assert [name for name, _ in caught.value.violations] == [field]
