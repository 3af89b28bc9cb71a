"""The hash of a sale, to and from the messages of the contract. Pure."""

from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import order_pb2, sale_pb2

_STATE_NAMES = {
    sale_pb2.SALE_STATE_OPEN: "open",
    sale_pb2.SALE_STATE_PAUSED: "paused",
    sale_pb2.SALE_STATE_CLOSED: "closed",
}
# As the hash has them.
STATES = {name.encode(): state for state, name in _STATE_NAMES.items()}
# New values of state, start_ms and end_ms, as far as an operator gives them.
Changes: TypeAlias = Mapping[str, str | int]


def to_fields(
    terms: sale_pb2.SaleTerms,
    *,
    now_ms: int,
    state: sale_pb2.SaleState.ValueType = sale_pb2.SALE_STATE_OPEN,
    revision: int = 0,
    terms_revision: int = 0,
) -> dict[str, str | int]:
    """Return the hash of a sale to load with `terms`; load.lua adds the epoch.

    Args:
        now_ms: Unix time by the clock of Redis; when a sale starts whose start_time is unset.
        state: as operators left it.
        revision: number of the operators' last change of state or window, 0 if there was none.
        terms_revision: how often they changed title or price.
    """
    end_ms = terms.end_time.ToMilliseconds()
    # A sale that is rebuilt may be over: its window must still be one.
    start_ms = min(now_ms, end_ms - 1)
    if terms.HasField("start_time"):
        start_ms = terms.start_time.ToMilliseconds()
    # A sale of one bucket has none to tell.
    several: dict[str, str | int] = {"buckets": terms.buckets} if terms.buckets > 1 else {}
    return {
        "state": _STATE_NAMES[state],
        "revision": revision,
        "terms_revision": terms_revision,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "limit": terms.purchase_limit,
        "rebuy": int(terms.rebuy_allowed),
        "title": terms.title,
        "total": terms.total_units,
        "currency": terms.unit_price.currency,
        "price": terms.unit_price.minor_units,
        "window_ms": terms.payment_window.ToMilliseconds(),
        **several,
    }


def to_sale(sku: str, fields: Mapping[bytes, bytes], stock: bytes | int | None) -> sale_pb2.Sale:
    """Return the sale; not loaded, with nothing but its sku, if a key is missing.

    Args:
        stock: units that are not held, in all buckets.
    """
    if b"state" not in fields or stock is None:
        return sale_pb2.Sale(terms=sale_pb2.SaleTerms(sku=sku))
    remaining = max(0, int(stock))
    sale = sale_pb2.Sale(
        terms=sale_pb2.SaleTerms(
            sku=sku,
            title=fields[b"title"].decode(),
            total_units=int(fields[b"total"]),
            unit_price=sale_pb2.Money(
                currency=fields[b"currency"].decode(), minor_units=int(fields[b"price"])
            ),
            purchase_limit=int(fields[b"limit"]),
            rebuy_allowed=fields[b"rebuy"] == b"1",
            buckets=int(fields.get(b"buckets", 1)),
        ),
        state=STATES[fields[b"state"]],
        remaining_units=remaining,
        sold_out=remaining == 0,
        epoch=int(fields[b"epoch"]),
        loaded=True,
    )
    sale.terms.start_time.FromMilliseconds(int(fields[b"start_ms"]))
    sale.terms.end_time.FromMilliseconds(int(fields[b"end_ms"]))
    sale.terms.payment_window.FromMilliseconds(int(fields[b"window_ms"]))
    return sale


def to_archived(record: order_pb2.SaleRecord) -> sale_pb2.Sale:
    """Return an archived sale, of which Redis has nothing."""
    return sale_pb2.Sale(terms=record.terms, state=record.state)


def to_changes(
    *,
    state: sale_pb2.SaleState.ValueType,
    start_time: Timestamp | None,
    end_time: Timestamp | None,
) -> Changes:
    """Return what of a sale's hash is to change; unspecified and None leave things as they are."""
    changes = (
        ("state", _STATE_NAMES.get(state)),
        ("start_ms", start_time and start_time.ToMilliseconds()),
        ("end_ms", end_time and end_time.ToMilliseconds()),
    )
    return {name: value for name, value in changes if value is not None}
