"""Decodes reservation events from Kafka, and refuses what breaks their contract."""

from google.protobuf.message import DecodeError

from seckill.order_no import is_order_no
from seckill.runtime import request_ids
from seckill.v1.events_pb2 import OrderReserved
from seckill.validation import PRINTABLE, PURCHASE_LIMIT_MAX, REQUEST_ID_MAX, SKU, USER_ID_MAX

EPOCH_MAX = 2**63 - 1


class Undecodable(Exception):
    """A message is not a reservation event that can be written."""

    def __init__(self, problem: str, partial: OrderReserved | None = None) -> None:
        """`partial`: number, sku, buyer and units, if all of these could be read."""
        super().__init__(problem)
        self.partial = partial


def decode_reservation(value: bytes | None) -> OrderReserved:
    """Return the reservation event in a message's value.

    Raises:
        Undecodable: it is none, or a field breaks its constraint; the message says which.
    """
    if not value:
        raise Undecodable("the message is empty")
    try:
        event = OrderReserved.FromString(value)
    except DecodeError as error:
        raise Undecodable("the message is not an OrderReserved") from error
    if not is_order_no(event.order_no):
        raise Undecodable("order_no is not an order number")
    if SKU.fullmatch(event.sku) is None:
        raise Undecodable("sku is not a sku")
    if not _is_printable(event.user_id, USER_ID_MAX):
        raise Undecodable(f"user_id is not 1 to {USER_ID_MAX} printable characters")
    if not 1 <= event.quantity <= PURCHASE_LIMIT_MAX:
        raise Undecodable(f"quantity is {event.quantity}, not 1 to {PURCHASE_LIMIT_MAX}")
    if not _is_printable(event.request_id, REQUEST_ID_MAX):
        problem = f"request_id is not 1 to {REQUEST_ID_MAX} printable characters"
        raise Undecodable(problem, _partial(event))
    if not 0 <= event.epoch <= EPOCH_MAX:
        raise Undecodable("epoch is negative", _partial(event))
    event.call_id = request_ids.given(None, event.call_id)
    return event


def _partial(event: OrderReserved) -> OrderReserved:
    return OrderReserved(
        order_no=event.order_no,
        sku=event.sku,
        user_id=event.user_id,
        quantity=event.quantity,
        call_id=request_ids.given(None, event.call_id),
    )


def _is_printable(value: str, length_max: int) -> bool:
    return len(value) <= length_max and PRINTABLE.fullmatch(value) is not None
