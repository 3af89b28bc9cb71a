"""The share of purchases that Envoy lets through, from what the gateways report of their load.

Pure arithmetic; its owner brings the reports and the time. Nothing is shed before a gateway refuses
calls itself, as the edge does not know the deadlines. From then on as many calls are let through as
the gateways answer, and some more, so that they always have something to do, and fewer while those
that wait are many. When there is room the share grows until all are let through again.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

# The share is set this often.
TICK_S = 0.1
# Let through beyond what is answered, while nothing waits; with this wait it is nothing, and with
# more of it less than nothing, to the last of these.
AHEAD_SHARE = 0.1
WAIT_S = 0.1
BEHIND_SHARE = -0.3
# The gateways are overloaded when they refuse more than this share of what comes.
REFUSED_SHARE = 0.01
# A tick makes the share larger and smaller by so much at most; from the least share to all of them
# it is a second and a half.
GROWTH, FALL = 1.3, 0.3
SHARE_MIN = 0.03
# What is counted in a tick was let through by the shares of about so many ticks. Of what is said to
# be offered then, as much is believed: the figures of one tick are of a few batches.
DELAY_TICKS = 2
BELIEVED = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What a gateway has counted lately, in calls a second.

    Attributes:
        arrived: calls of the methods that it admits by time.
        urgent: those of them that are about orders, and not shed.
        refused: those of them that it has refused.
        capacity: what it answers while it is busy; 0 if that is not known.
        wait_s: what a call that comes would wait.
    """

    arrived: float
    urgent: float
    refused: float
    capacity: float
    wait_s: float


class Shedding:
    """Follows the gateways' load.

    Attributes:
        share: of the purchases that are let through.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._past = deque([1.0] * DELAY_TICKS, maxlen=DELAY_TICKS)
        self._offered = 0.0

    def tick(self, loads: Sequence[Load]) -> float:
        """Return the share from now on; to be called every TICK_S.

        Args:
            loads: of the gateways whose reports are fresh; without any nothing is shed.
        """
        self._past.append(self.share)
        lowest, highest = self.share * FALL, self.share * GROWTH
        self.share = min(1.0, max(SHARE_MIN, min(highest, max(lowest, self._wanted(loads)))))
        return self.share

    def _wanted(self, loads: Sequence[Load]) -> float:
        """The share of which the gateways could answer all."""
        arrived = sum(load.arrived for load in loads)
        refused = sum(load.refused for load in loads)
        capacity = sum(load.capacity for load in loads)
        urgent = sum(load.urgent for load in loads)
        offered = (arrived - urgent) / (sum(self._past) / DELAY_TICKS)
        self._offered += BELIEVED * (offered - self._offered)
        overloaded = refused > REFUSED_SHARE * arrived
        if not capacity or (self.share == 1 and not overloaded):
            return 1.0
        # Each gateway's wait counts by its part in what is answered: the slowest does not decide.
        wait_s = sum(load.wait_s * load.capacity for load in loads) / capacity
        ahead = max(BEHIND_SHARE, AHEAD_SHARE * (1 - wait_s / WAIT_S))
        room = max(0.0, (1 + ahead) * capacity - urgent)
        return room / self._offered if self._offered > 0 else 1.0
