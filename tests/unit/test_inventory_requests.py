"""Constraints of InventoryService's requests."""

import pytest

from inventory_svc import requests
from inventory_svc.sales import to_fields, to_sale
from seckill.errors import InvalidField
from seckill.v1 import inventory_pb2, sale_pb2
from tests.factories import moment, sale_terms

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


def test_why_the_kill_switch_is_thrown_is_said_in_short() -> None:
    """200 characters, or nothing."""
    for reason in ("", "x" * 200):
        requests.check_kill_switch(inventory_pb2.SetKillSwitchRequest(on=True, reason=reason))
    with pytest.raises(InvalidField, match="reason"):
        requests.check_kill_switch(inventory_pb2.SetKillSwitchRequest(reason="x" * 201))


def test_unset_terms_get_their_defaults() -> None:
    """One unit a purchase, from now on, 15 minutes to pay; the request itself is not changed."""
    terms = sale_pb2.SaleTerms(
        sku="sku",
        total_units=1,
        unit_price=sale_pb2.Money(currency="CNY"),
        end_time=moment(3600),
    )
    complete = requests.with_defaults(terms, start_default_ms=START_MS)
    assert complete.purchase_limit == 1
    assert complete.start_time.ToMilliseconds() == START_MS
    assert complete.payment_window.ToSeconds() == 900
    assert not terms.HasField("start_time")


def test_end_before_the_default_begin_is_refused() -> None:
    """A sale that is over before it begins at once."""
    terms = sale_terms(ends_in_s=-10)
    terms.ClearField("start_time")
    start_ms = moment(0).ToMilliseconds()
    with pytest.raises(InvalidField, match="end_time"):
        requests.with_defaults(terms, start_default_ms=start_ms)


def test_sale_survives_its_way_through_redis() -> None:
    """What load.lua writes reads as the same terms."""
    terms = requests.with_defaults(sale_terms(limit=3, rebuy_allowed=True), start_default_ms=0)
    fields = {name.encode(): str(value).encode() for name, value in to_fields(terms).items()}
    sale = to_sale(terms.sku, {**fields, b"epoch": b"4"}, b"0")
    assert sale.terms == terms
    assert (sale.loaded, sale.sold_out, sale.epoch) == (True, True, 4)
    assert sale.state == sale_pb2.SALE_STATE_OPEN
