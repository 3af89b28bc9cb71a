"""Failpoints: places where a fault test kills or stalls a service the n-th time it gets there.

`SECKILL_FAILPOINTS=relay.after_ack:3:kill` kills the process the third time the relay has Kafka's
acknowledgement and has not yet told Redis. Several are separated by commas. The production profile
refuses the variable; without it a failpoint costs one lookup in an empty dictionary, once a batch.
"""

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Literal, cast, get_args

Action = Literal["kill", "sleep", "raise"]
SLEEP_S = 3.0


class FailpointReached(Exception):
    """Raised by the action `raise`: an unexpected defect."""


@dataclass
class _Failpoint:
    action: Action
    # Passes left until it acts; it acts once.
    passes_left: int


_armed: dict[str, _Failpoint] = {}


def parse(text: str) -> dict[str, tuple[int, Action]]:
    """Read "name:nth:action,…".

    Returns:
        Name → (which time it acts, counted from 1; the action).

    Raises:
        ValueError: an entry has another form; quotes it.
    """
    found: dict[str, tuple[int, Action]] = {}
    for entry in filter(None, text.split(",")):
        name, _, rest = entry.partition(":")
        nth, _, action = rest.partition(":")
        if not name or not nth.isdecimal() or int(nth) < 1 or action not in get_args(Action):
            raise ValueError(f"{entry!r} is not name:nth:action with {'|'.join(get_args(Action))}")
        found[name] = (int(nth), cast("Action", action))
    return found


def arm(text: str) -> None:
    """Arm the failpoints of `text`, and no others."""
    _armed.clear()
    for name, (nth, action) in parse(text).items():
        _armed[name] = _Failpoint(action=action, passes_left=nth)


async def reach(name: str) -> None:
    """Pass the failpoint `name`; it acts if it is armed and this is the pass it waits for."""
    point = _armed.get(name)
    if point is None:
        return
    point.passes_left -= 1
    if point.passes_left != 0:
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "raise":
        raise FailpointReached(name)
    await asyncio.sleep(SLEEP_S)
