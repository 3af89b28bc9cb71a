"""One caller's connection to the gateway: what comes passes the sieve first, and who is refused
rests."""

from typing import TYPE_CHECKING

from gateway.front.load import LongestDeadline
from gateway.front.sieve import Sieve, SieveOverrun
from seckill.front.connection import ServerConnection
from seckill.runtime.http2.engine import (
    Engine,
    SettingsReceived,
    names_other_table,
    server_engine,
    with_empty_table,
)

if TYPE_CHECKING:
    from gateway.front.http2 import Http2Front


class CallerConnection(ServerConnection):
    """Has calls for which there is no time refused before they are decoded."""

    front: "Http2Front"

    def __init__(self, front: "Http2Front") -> None:
        super().__init__(front)
        self._sieve = Sieve(front.sieve_patterns, front.sieve_contents)
        self._longest = LongestDeadline()
        # Not read: it was refused, and can wait.
        self._resting = False

    def greet(self) -> tuple[Engine, bytes]:
        engine = server_engine(self.front.limits)
        return engine, with_empty_table(engine.data_to_send())

    def data_received(self, data: bytes) -> None:
        front = self.front
        now_s = front.now_s()
        refused = front.admission.refused
        refuses = front.admission.refuses_all(self._longest.read(now_s))
        sieve = self._sieve
        try:
            data = sieve.sift(data, front.refusals() if refuses else None)
        except SieveOverrun:
            self.close("protocol")
            return
        if sieve.refused:
            front.metrics.count_sieved(sieve.refused)
            front.queue.count_sieved(len(sieve.refused))
            self.exchanged += len(sieve.refused)
            sieve.refused.clear()
        self.take(data, now_s)
        if front.admission.refused != refused:
            self._rest()

    # -- the rest --------------------------------------------------------------------------------

    @property
    def holds_back(self) -> bool:
        return self._paused or self._resting

    def _rest(self) -> None:
        """Let calls gather before the next read: each read costs as much as several refusals."""
        if not self._resting:
            self._resting = True
            self.read_or_not()
            self.front.rest(self)

    def wake(self) -> None:
        """The rest is over."""
        self._resting = False
        self.read_or_not()

    # -- what the sieve must know ----------------------------------------------------------------

    def note_deadline(self, left_s: float, now_s: float) -> None:
        self._longest.note(left_s, now_s)

    def note_streams(self, last_id: int) -> None:
        self._sieve.passed(last_id)

    def note_settings(self, settings: SettingsReceived) -> None:
        if names_other_table(settings):
            # The next header block must say so, and only the library can say it.
            self._sieve.switch_off()

    def further_bytes(self) -> bytearray:
        out = self._sieve.out
        if out:
            self._sieve.out = bytearray()
        return out
