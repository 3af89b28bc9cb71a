"""Slow motion: the callers share their cores with the mesh, and must not starve it.

A second of the sale takes `slow` seconds of the machine. Whatever counts in time is stretched with
it (reactions, the lives of tokens; the gate's rates are divided), so nobody wins by it.
"""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The clock of one sale.

    Attributes:
        starts_s: Unix time at which it starts.
        slow: seconds of the machine for a second of the sale.
    """

    starts_s: float
    slow: float

    def now_s(self) -> float:
        """Return the seconds of the sale since its start; negative before it."""
        return (time.time() - self.starts_s) / self.slow

    async def until(self, moment_s: float) -> float:
        """Wait for a moment of the sale; return how many seconds of the machine too late it is."""
        await asyncio.sleep(max(0.0, (moment_s - self.now_s()) * self.slow))
        return (self.now_s() - moment_s) * self.slow

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds of the sale."""
        await asyncio.sleep(seconds * self.slow)
