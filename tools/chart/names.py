"""How the schema refuses a name: with those that exist."""

from collections.abc import Iterable
from typing import Any


def no_such_name(known: Iterable[str]) -> dict[str, Any]:
    """Return what any other name must be: a text that nobody sets, and that the error repeats.

    `additionalProperties: false` would not say which names there are, and the library that Helm
    validates with takes the place of `propertyNames` for another one.
    """
    return {"const": f"there is no such name; the names are {', '.join(sorted(known))}"}
