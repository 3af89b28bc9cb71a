"""SQL statements by name: each is a file in a room's `sql/`, read once."""

from functools import cache
from pathlib import Path

_ROOMS = Path(__file__).parents[1]


@cache
def statement(name: str) -> str:
    """Return the statement in `<room>/sql/<statement>.sql`, with the comment that describes it.

    Args:
        name: "room/statement", e.g. "intake/write_orders".

    Raises:
        FileNotFoundError: there is no such statement.
    """
    room, _, file = name.partition("/")
    return (_ROOMS / room / "sql" / f"{file}.sql").read_text(encoding="utf-8")
