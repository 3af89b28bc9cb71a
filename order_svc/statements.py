"""SQL statements by name: each is a file of `sql/`, read once."""

from functools import cache
from pathlib import Path

_DIRECTORY = Path(__file__).with_name("sql")


@cache
def statement(name: str) -> str:
    """The statement in `sql/<name>.sql`, with the comment that describes it.

    Args:
        name: the file's name without its ending.

    Raises:
        FileNotFoundError: there is no such statement.
    """
    return (_DIRECTORY / f"{name}.sql").read_text(encoding="utf-8")
