"""A bounded map for the hot path."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers at least the `entries_max / 2` entries used last, and at most `entries_max`.

    Two plain dicts: when the young one is full it becomes the old one, and the former old one is
    dropped whole. Reading an old entry makes it young. That costs one or two dictionary look-ups,
    where an exact LRU moves a link on every one.
    """

    def __init__(self, entries_max: int) -> None:
        """`entries_max`: at least 2."""
        self._half = max(1, entries_max // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        """Entries held; one that is both young and old counts twice."""
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """The value, or None; None itself is never stored."""
        value = self._young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember `value`."""
        young = self._young
        if len(young) >= self._half and key not in young:
            self._old = young
            self._young = young = {}
        young[key] = value

    def drop(self, key: K) -> None:
        """Forget one entry, if it is there."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young = {}
        self._old = {}
