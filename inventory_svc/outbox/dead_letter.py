"""Dead letters of the outbox: reservations that cannot become reservation events."""

from collections.abc import Sequence

from inventory_svc.keys import tag_in
from inventory_svc.outbox.entry import Unsendable
from seckill.runtime.kafka_writer import Message

# Of a reservation, kept in its dead letter: far more than reserve.lua ever writes (about 300
# bytes).
PAYLOAD_BYTES_MAX = 65_536
_REFUSED = (
    "what its buyers hold goes on record as rejected, and rollback_svc returns the units, unless"
    " the number is an order already; nothing is left to do"
)
_NOTHING_HELD = "no hold in redis lacks its order: there were no units to return"


def dead_letter_of(found: Unsendable, *, refused: Sequence[str]) -> Message:
    """Return what cannot be sent as a message for the dead-letter topic, with CloudEvents
    attributes.

    The same reservation always gets the same `ce_id`.

    Args:
        refused: numbers of the orders that are refused in its place.
    """
    sku, entry_id = found.entry.sku, found.entry.entry_id.decode()
    line = f"/{found.line}" if found.line else ""
    headers = {
        # Entries of two buckets may have one id.
        "ce_id": f"{tag_in(found.entry.outbox)}/{entry_id}{line}",
        "ce_source": "/seckill/inventory",
        "ce_type": "seckill.outbox.undecodable.v1",
        "ce_specversion": "1.0",
        "content-type": "application/octet-stream",
        "error": found.problem,
        "sku": sku,
        "entry_id": entry_id,
        "order_no": " ".join(refused),
        "units": "returned" if refused else "none",
        "advice": _REFUSED if refused else _NOTHING_HELD,
    }
    return Message(
        key=sku.encode(),
        value=found.text[:PAYLOAD_BYTES_MAX],
        headers=[(name, value.encode()) for name, value in headers.items()],
    )
