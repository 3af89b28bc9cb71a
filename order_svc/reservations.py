"""Decodes reservations from Kafka; whatever breaks the contract is told apart here."""

from google.protobuf.message import DecodeError

from seckill.order_no import is_order_no
from seckill.v1.events_pb2 import OrderReserved
from seckill.validation import PRINTABLE, PURCHASE_LIMIT_MAX, REQUEST_ID_MAX, SKU, USER_ID_MAX

EPOCH_MAX = 2**63 - 1


class Undecodable(Exception):
    """A message is not a reservation that can be written."""


def decode_reservation(value: bytes | None) -> OrderReserved:
    """The reservation in a message's value.

    Raises:
        Undecodable: it is none, or a field breaks its constraint; the message says which.
    """
    if not value:
        raise Undecodable("the message is empty")
    try:
        event = OrderReserved.FromString(value)
    except DecodeError as error:
        raise Undecodable("the message is no OrderReserved") from error
    if not is_order_no(event.order_no):
        raise Undecodable("order_no is no order number")
    if SKU.fullmatch(event.sku) is None:
        raise Undecodable("sku is no sku")
    _check_printable("user_id", event.user_id, USER_ID_MAX)
    _check_printable("request_id", event.request_id, REQUEST_ID_MAX)
    if not 1 <= event.quantity <= PURCHASE_LIMIT_MAX:
        raise Undecodable(f"quantity is {event.quantity}, not 1 to {PURCHASE_LIMIT_MAX}")
    if not 0 <= event.epoch <= EPOCH_MAX:
        raise Undecodable("epoch is negative")
    return event


def _check_printable(field: str, value: str, length_max: int) -> None:
    if len(value) > length_max or PRINTABLE.fullmatch(value) is None:
        raise Undecodable(f"{field} is not 1 to {length_max} printable characters")
