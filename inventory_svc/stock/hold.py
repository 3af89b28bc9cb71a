"""The text of a hold: what a buyer has of a sale, or had.

The hash `seckill:users:{sku}` maps a user id to one hold:

    hold     = live / released / rejected
    live     = order_no " " quantity " " request_id
    released = "-" live    ; the units were given back; what follows is what was held
    rejected = "-" order_no " 0" quantity " " request_id
                           ; released, because the mesh rejected the order: it does not count
                           ; against the buyer. Version 0.2 reads it as released.

order_no is 26 characters of Crockford's base 32 (seckill/order_no.py) and never starts with "-",
quantity is a decimal number of units of at least 1 without a leading zero, and request_id is 1 to
64 printable ASCII characters without spaces.

A buyer who buys again has more than one hold. The hash `seckill:past:{sku}` maps their user id to
those that were replaced, at most 8 and the latest first, each without the "-", separated by spaces:
so a late repeat of an earlier request gets the answer that it had.

reserve.lua writes holds, release.lua marks them, repair.lua and the rebuild write what
`format_hold` makes. tests/inventory/test_hold_text.py holds the scripts and this module against
each other: change both or neither.
"""

import re

from seckill.errors import SeckillError
from seckill.v1 import inventory_pb2

RELEASED = "-"
REJECTED = "0"
# Earlier holds kept for each buyer; also in reserve.lua.
PAST_MAX = 8
_HOLD = re.compile(rb"(-?)([^\s-]\S*) ([0-9]+) (\S+)")


def format_hold(
    order_no: str,
    *,
    quantity: int,
    request_id: str,
    released: bool = False,
    rejected: bool = False,
) -> str:
    """Return the text of a hold; `rejected` is of a released one."""
    mark = RELEASED if released or rejected else ""
    return f"{mark}{order_no} {REJECTED if rejected else ''}{quantity} {request_id}"


def add_past(hold: str, past: str) -> str:
    """Return the earlier holds of a buyer once `hold`, live or not, has been replaced too."""
    words = f"{hold.removeprefix(RELEASED)} {past}".split()
    return " ".join(words[: 3 * PAST_MAX])


def parse_hold(user: bytes, text: bytes) -> inventory_pb2.Hold:
    """Return the hold of a buyer; raises SeckillError if the text is not one."""
    found = _HOLD.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        released, order_no, quantity, request_id = found.groups()
        return inventory_pb2.Hold(
            order_no=order_no.decode("ascii"),
            user_id=user.decode("ascii"),
            request_id=request_id.decode("ascii"),
            quantity=int(quantity),
            released=bool(released),
            rejected=quantity.startswith(REJECTED.encode()),
        )
    except ValueError as error:
        raise SeckillError("a hold in redis is not what the scripts write") from error


def parse_past(user: bytes, text: bytes) -> list[inventory_pb2.Hold]:
    """Return the earlier holds of a buyer, the latest first; raises SeckillError as parse_hold."""
    words = text.split()
    holds = [
        parse_hold(user, b" ".join(words[start : start + 3])) for start in range(0, len(words), 3)
    ]
    for hold in holds:
        hold.released = True
    return holds
