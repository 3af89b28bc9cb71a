"""Constraints of InventoryService's requests. Pure."""

from collections.abc import Sequence
from datetime import timedelta

from seckill.errors import InvalidField
from seckill.v1 import inventory_pb2, sale_pb2
from seckill.v1.inventory_pb2 import ReserveItem
from seckill.validation import (
    BATCH_MAX,
    PAYMENT_WINDOW_DEFAULT_S,
    PRINTABLE,
    PURCHASE_LIMIT_MAX,
    REQUEST_ID_MAX,
    TITLE_MAX,
    UNITS_MAX,
    USER_ID_MAX,
    Violations,
    check_terms,
)

# Characters of the reason why the kill switch was set.
KILL_REASON_MAX = 200
# What is wrong with a title or a price that comes later.
BEFORE_THE_START = "can be changed only before the sale starts"
# More units than a sale and all of its holds can have, many times over.
SURPLUS_MAX = 10**12


def check_sku(sku: str) -> None:
    """Raise InvalidField if `sku` is none."""
    violations = Violations()
    violations.sku("sku", sku)
    violations.check()


def check_reserve(request: inventory_pb2.ReserveRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.sku("sku", request.sku)
    _check_item(violations, "item", request.item)
    violations.check()


def check_batch(request: inventory_pb2.BatchReserveRequest) -> None:
    """Raise InvalidField naming each constraint that is broken, e.g. of items[3].quantity."""
    violations = Violations()
    violations.sku("sku", request.sku)
    violations.batch("items", len(request.items))
    violations.check()
    if not _all_valid(request.items):
        for index, item in enumerate(request.items):
            _check_item(violations, f"items[{index}]", item)
        violations.check()


def check_release(request: inventory_pb2.ReleaseRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.sku("sku", request.sku)
    violations.batch("items", len(request.items))
    violations.check()
    for index, item in enumerate(request.items):
        violations.order_no(f"items[{index}].order_no", item.order_no)
        violations.user_id(f"items[{index}].user_id", item.user_id)
    violations.check()


def check_repair(request: inventory_pb2.RepairHoldsRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.sku("sku", request.sku)
    kinds = (("missing", request.missing), ("unsent", request.unsent), ("ended", request.ended))
    count = sum(len(holds) for _, holds in kinds)
    if count > BATCH_MAX:
        longest, _ = max(kinds, key=lambda kind: len(kind[1]))
        violations.add(longest, f"has, with the others, more than {BATCH_MAX} holds: {count}")
    # The script counts in doubles.
    violations.between("surplus_units", request.surplus_units, -SURPLUS_MAX, SURPLUS_MAX)
    violations.check()
    for field, holds in kinds:
        for index, hold in enumerate(holds):
            violations.order_no(f"{field}[{index}].order_no", hold.order_no)
            violations.user_id(f"{field}[{index}].user_id", hold.user_id)
            violations.request_id(f"{field}[{index}].request_id", hold.request_id)
            violations.between(f"{field}[{index}].quantity", hold.quantity, 1, PURCHASE_LIMIT_MAX)
    violations.check()


def check_explain(request: inventory_pb2.ExplainHoldsRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.user_id("user_id", request.user_id)
    if request.sku:
        violations.sku("sku", request.sku)
    violations.check()


def check_update(request: inventory_pb2.UpdateSaleRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.sku("sku", request.sku)
    if request.state not in sale_pb2.SaleState.values():
        violations.add("state", f"is not a state of a sale: {request.state}")
    violations.timestamp("start_time", request.start_time)
    violations.timestamp("end_time", request.end_time)
    violations.text("title", request.title, TITLE_MAX)
    if request.HasField("unit_price"):
        violations.money("unit_price", request.unit_price)
    violations.check()


def check_addition(request: inventory_pb2.AddStockRequest) -> None:
    """Raise InvalidField naming each constraint that is broken."""
    violations = Violations()
    violations.sku("sku", request.sku)
    violations.printable("addition_id", request.addition_id, REQUEST_ID_MAX)
    violations.between("units", request.units, 1, UNITS_MAX)
    violations.check()


def check_kill_switch(request: inventory_pb2.SetKillSwitchRequest) -> None:
    """Raise InvalidField if the reason is too long."""
    if len(request.reason) > KILL_REASON_MAX:
        raise InvalidField([("reason", f"must have at most {KILL_REASON_MAX} characters")])


def with_defaults(terms: sale_pb2.SaleTerms) -> sale_pb2.SaleTerms:
    """Return checked terms with defaults set, times cut to milliseconds.

    An unset start_time stays unset: it means "at once", by the clock of Redis, which sells.

    Raises InvalidField naming each constraint of SaleTerms that is broken.
    """
    check_terms(terms)
    complete = sale_pb2.SaleTerms()
    complete.CopyFrom(terms)
    complete.purchase_limit = terms.purchase_limit or 1
    complete.buckets = terms.buckets or 1
    if terms.HasField("start_time"):
        complete.start_time.FromMilliseconds(terms.start_time.ToMilliseconds())
    complete.end_time.FromMilliseconds(terms.end_time.ToMilliseconds())
    if not terms.HasField("payment_window"):
        complete.payment_window.FromTimedelta(timedelta(seconds=PAYMENT_WINDOW_DEFAULT_S))
    complete.payment_window.FromMilliseconds(complete.payment_window.ToMilliseconds())
    if complete.end_time.ToMilliseconds() <= complete.start_time.ToMilliseconds():
        raise InvalidField([("terms.end_time", "must be after start_time")])
    return complete


def _all_valid(items: Sequence[ReserveItem]) -> bool:
    """Return whether all items are valid: one look at all texts at once, for the hot path."""
    users = [item.user_id for item in items]
    requests = [item.request_id for item in items]
    quantities = [item.quantity for item in items]
    return (
        all(users)
        and all(requests)
        and len(max(users, key=len)) <= USER_ID_MAX
        and len(max(requests, key=len)) <= REQUEST_ID_MAX
        and min(quantities) >= 1
        and max(quantities) <= PURCHASE_LIMIT_MAX
        and PRINTABLE.fullmatch("".join(users)) is not None
        and PRINTABLE.fullmatch("".join(requests)) is not None
    )


def _check_item(violations: Violations, field: str, item: ReserveItem) -> None:
    violations.user_id(f"{field}.user_id", item.user_id)
    violations.request_id(f"{field}.request_id", item.request_id)
    violations.between(f"{field}.quantity", item.quantity, 1, PURCHASE_LIMIT_MAX)
