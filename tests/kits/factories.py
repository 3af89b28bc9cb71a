"""Values that tests need, with random ids."""

import uuid
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import sale_pb2

PRICE = sale_pb2.Money(currency="CNY", minor_units=990)


def new_id(kind: str) -> str:
    """Return an id that nothing else has, e.g. "buyer-1f0c…"."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def moment(offset_s: float) -> Timestamp:
    """Return the time in so many seconds from now."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(seconds=offset_s))
    return stamp


def sale_terms(
    *,
    sku: str = "",
    units: int = 10,
    limit: int = 1,
    starts_in_s: float = -1.0,
    ends_in_s: float = 3600.0,
    payment_window_s: float = 600.0,
    rebuy_allowed: bool = False,
    buckets: int = 0,
) -> sale_pb2.SaleTerms:
    """Return the terms of a sale that is open, unless the arguments say otherwise."""
    window = Duration()
    window.FromNanoseconds(int(payment_window_s * 1e9))
    return sale_pb2.SaleTerms(
        sku=sku or new_id("sku"),
        title="A thing",
        total_units=units,
        unit_price=PRICE,
        purchase_limit=limit,
        start_time=moment(starts_in_s),
        end_time=moment(ends_in_s),
        payment_window=window,
        rebuy_allowed=rebuy_allowed,
        buckets=buckets,
    )
