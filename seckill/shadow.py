"""Shadow sales: what a rehearsal sells. They have no real units, and nothing of them stays.

A sale is one by its sku. It is not on the storefront's list, has no metrics of its own, and its
orders have neither ledger nor events: what is on the ledger stays for ever, and events go to
others.
"""

import re
import secrets

from seckill.errors import InvalidField

PREFIX = "shadow-sale-"
SUFFIX_BYTES = 6
_SKU = re.compile(rf"{PREFIX}[0-9a-f]{{{2 * SUFFIX_BYTES}}}")
# From its start to its end, at most.
WINDOW_MAX_S = 3_600.0


def new_sku() -> str:
    """Return the sku of a new shadow sale."""
    return f"{PREFIX}{secrets.token_hex(SUFFIX_BYTES)}"


def is_shadow(sku: str) -> bool:
    """Return whether a sale is a shadow sale."""
    return sku.startswith(PREFIX)


def is_well_formed(sku: str) -> bool:
    """Return whether `sku` is one that `new_sku` makes; others with the prefix are refused."""
    return _SKU.fullmatch(sku) is not None


def check_shadow(sku: str) -> None:
    """Raise InvalidField unless `sku` is that of a shadow sale."""
    if not is_well_formed(sku):
        raise InvalidField([("sku", f"must be that of a shadow sale, {PREFIX}…, not {sku!r}")])
