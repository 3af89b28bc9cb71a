"""Sales as rows and as messages."""

from datetime import UTC, timedelta
from typing import Any

from google.protobuf import json_format

from order_svc.db.database import Row
from order_svc.orders.model import timestamp
from seckill.v1 import order_pb2, sale_pb2
from seckill.validation import PAYMENT_WINDOW_DEFAULT_S

SALE_STATES = {
    "open": sale_pb2.SALE_STATE_OPEN,
    "paused": sale_pb2.SALE_STATE_PAUSED,
    "closed": sale_pb2.SALE_STATE_CLOSED,
}
SALE_STATE_NAMES = {state: name for name, state in SALE_STATES.items()}


def sale_columns(terms: sale_pb2.SaleTerms) -> dict[str, Any]:
    """Return the columns of `sales` for these terms, defaults filled in, in statement order."""
    starts = terms.start_time if terms.HasField("start_time") else None
    window_s = float(PAYMENT_WINDOW_DEFAULT_S)
    if terms.HasField("payment_window"):
        window_s = terms.payment_window.ToNanoseconds() / 1e9
    return {
        "sku": terms.sku,
        "title": terms.title,
        "total": terms.total_units,
        "unit_price_minor": terms.unit_price.minor_units,
        "currency": terms.unit_price.currency,
        "purchase_limit": terms.purchase_limit or 1,
        "starts_at": starts.ToDatetime(UTC) if starts is not None else None,
        "ends_at": terms.end_time.ToDatetime(UTC),
        "payment_window": timedelta(seconds=window_s),
        "rebuy_allowed": terms.rebuy_allowed,
        "buckets": terms.buckets or 1,
    }


def terms_of(row: Row) -> sale_pb2.SaleTerms:
    """Return the terms in a row of find_sale.sql."""
    terms = sale_pb2.SaleTerms(
        sku=row["sku"],
        title=row["title"],
        total_units=row["total"],
        unit_price=sale_pb2.Money(currency=row["currency"], minor_units=row["unit_price_minor"]),
        purchase_limit=row["purchase_limit"],
        start_time=timestamp(row["starts_at"]),
        end_time=timestamp(row["ends_at"]),
        rebuy_allowed=row["rebuy_allowed"],
        buckets=row["buckets"],
    )
    terms.payment_window.FromTimedelta(row["payment_window"])
    return terms


def record_of(row: Row) -> order_pb2.SaleRecord:
    """Return the sale in a row of snapshot_sale.sql."""
    return order_pb2.SaleRecord(
        terms=terms_of(row),
        state=SALE_STATES[row["state"]],
        revision=row["revision"],
        epoch=row["epoch"],
        sold_units=row["sold"],
        terms_revision=row["terms_revision"],
        archive_time=timestamp(row["archived_at"]),
    )


def change_of(row: Row) -> sale_pb2.SaleChange:
    """Return the change in the `change_…` columns of a row."""
    return sale_pb2.SaleChange(
        id=row["change_id"],
        sku=row["change_sku"],
        operator=row["change_operator"],
        change_time=timestamp(row["changed_at"]),
        before=json_format.Parse(row["change_before"], sale_pb2.SaleFacts()),
        after=json_format.Parse(row["change_after"], sale_pb2.SaleFacts()),
        addition_id=row["change_addition_id"] or "",
        added_units=row["change_added_units"] or 0,
    )


def facts_text(facts: sale_pb2.SaleFacts) -> str:
    """Return the facts as `sale_changes` has them."""
    return json_format.MessageToJson(facts, indent=None)
