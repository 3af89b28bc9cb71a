"""How many reservations wait in an outbox, as reserve.lua counts them. Pure."""

from collections.abc import Sequence

# What to read of the hash `seckill:backlog:{sku}`.
FIELDS = ("entries", "reservations")


def reservations_waiting(length: int, counted: Sequence[bytes | None]) -> int:
    """Return the reservations in an outbox.

    Args:
        length: entries in the stream.
        counted: values of FIELDS at the same moment. Entries that were added without being counted
            have one reservation each; those that were removed without it had at least one each.
    """
    if not length:
        return 0
    entries, reservations = (int(value or 0) for value in counted)
    return max(length, reservations + length - entries)


def is_overcounted(length: int, counted: Sequence[bytes | None]) -> bool:
    """Return whether entries are gone that were not counted as removed."""
    return 0 < length < int(counted[0] or 0)
