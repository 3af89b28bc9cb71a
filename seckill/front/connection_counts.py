"""How many connections a front has, and why it has closed others."""

from prometheus_client import Counter, Gauge


class ConnectionCounts:
    """Counts the connections of a front in two metrics of its service."""

    def __init__(self, count: Gauge, closed: Counter) -> None:
        """`closed` has one label, the reason."""
        self._count = count
        self._closed = closed

    def count_connections(self, change: int) -> None:
        """So many more are open."""
        self._count.inc(change)

    def count_closed(self, reason: str) -> None:
        """A connection is being closed by us."""
        self._closed.labels(reason).inc()

    def write(self) -> None:
        """Nothing is noted that would have to be written."""
