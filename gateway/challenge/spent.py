"""Which solutions have been used, until they would not count anyway."""

import math
from typing import Protocol

from seckill.errors import Overloaded

# Solutions that expire within the same so many seconds are forgotten together.
STEP_S = 10


class SpentSolutions(Protocol):
    """Lets each solution count once."""

    async def spend(self, name: bytes, *, expire_s: float, now_s: float) -> bool:
        """Use a solution; return False if it has been used before.

        Args:
            name: of the solution, as in Solved.
            expire_s: Unix time until which it is remembered.
            now_s: Unix time.

        Raises:
            Overloaded, DependencyUnavailable: it cannot be remembered, so it must not count.
        """


class LocalSpentSolutions:
    """Remembers them in this process, about 120 bytes each.

    A full table refuses further solutions: forgetting one early would let it count twice. To fill
    it, so many have to be solved within the life of a challenge.
    """

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        # By the end of the step in which they expire: a step is forgotten as a whole.
        self._steps: dict[int, set[bytes]] = {}

    def __len__(self) -> int:
        """Solutions in memory."""
        return sum(map(len, self._steps.values()))

    async def spend(self, name: bytes, *, expire_s: float, now_s: float) -> bool:
        """Use a solution; see SpentSolutions.spend."""
        end = math.ceil(expire_s / STEP_S)
        step = self._steps.get(end)
        if step is not None and name in step:
            return False
        if step is None or len(self) >= self._entries_max:
            self._forget(now_s)
        if len(self) >= self._entries_max:
            raise Overloaded("too many solutions of challenges are being used")
        self._steps.setdefault(end, set()).add(name)
        return True

    def _forget(self, now_s: float) -> None:
        for end in [end for end in self._steps if end * STEP_S <= now_s]:
            del self._steps[end]
