"""Cores and clocks of processes, from /proc (Linux)."""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
# The kernel's lowest priority: runs when no other process wants the core.
LOWEST_NICE = 19
# Cores' worth of CPU that no visible process has had; less is an error of the kernel's samples.
_HIDDEN_LEAST = 0.3


@dataclass(frozen=True)
class Cores:
    """Which cores the measured servers have, and which everything else.

    Attributes:
        servers: what is compared runs here, on one core.
        others: the load, the harness, and stores that are not on the path of a purchase.
    """

    servers: frozenset[int]
    others: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """Give the servers the first core that this process may use, and all else the others.

        Raises:
            RuntimeError: there is only one.
        """
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise RuntimeError("two cores are needed: one for the servers, one for the load")
        return cls(frozenset(usable[:1]), frozenset(usable[1:]))


def usable() -> frozenset[int]:
    """Return the cores that this process may use."""
    return frozenset(os.sched_getaffinity(0))


@contextmanager
def children_on(cores: Collection[int]) -> Iterator[None]:
    """What this thread starts meanwhile runs on `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            for task in (_PROC / str(one) / "task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def pin(pid: int, cores: Collection[int], *, nice: int = 0) -> None:
    """Move a process, its descendants and all their threads to `cores`; lower their priority."""
    for one in tree(pid):
        try:
            for task in (_PROC / str(one) / "task").iterdir():
                os.sched_setaffinity(int(task.name), cores)
                if nice:
                    os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
            if nice:
                _lower_session(one, nice)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _lower_session(pid: int, nice: int) -> None:
    """Lower the priority of a process's session, if the kernel schedules by sessions.

    Where autogroups are on, priorities only count within a session; the harness's own is left as
    it is. What cannot be written now (it is allowed ten times a second) is the next time.
    """
    path = _PROC / str(pid) / "autogroup"
    if path.exists() and os.getsid(pid) != os.getsid(0):
        with suppress(OSError):
            path.write_text(str(nice))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, those that ended included."""
    ticks = sum(_ticks(one) for one in tree(pid))
    return ticks * _TICK_S


def resident_mib(pid: int) -> float:
    """Memory that a process and its descendants hold; pages they share count once for each."""
    pages = sum(int(fields[21]) for fields in map(_stat, tree(pid)) if fields)
    return pages * _PAGE_BYTES / 2**20


@dataclass(frozen=True)
class Disturbance:
    """What others took of the cores meanwhile.

    Attributes:
        others: cores' worth of CPU that processes had which this one has not started.
        steal: the same, that the hypervisor gave to other machines.
    """

    others: float
    steal: float


class Meter:
    """Measures what others take of the cores that this process may use, from its start on.

    The kernel's sums by core include the processes of other containers, but come from samples
    taken a few hundred times a second, which work that sleeps and wakes as often leads astray.
    Those of processes are exact. So a difference between both counts only where it is large.
    """

    def __init__(self) -> None:
        self._cores = os.sched_getaffinity(0)
        self._start = self._read()

    def read(self) -> Disturbance:
        """Return what it was since the start."""
        total_s, own_s, busy_s, steal_s, seconds = (
            after - before for before, after in zip(self._start, self._read(), strict=True)
        )
        seconds = max(seconds, _TICK_S)
        if self._cores != self._all_cores:
            # Where other processes have run is not known.
            total_s = own_s
        visible, hidden = (total_s - own_s) / seconds, (busy_s - total_s) / seconds
        others = max(0.0, visible) + (hidden if hidden > _HIDDEN_LEAST else 0.0)
        return Disturbance(others=others, steal=max(0.0, steal_s) / seconds)

    def _read(self) -> tuple[float, float, float, float, float]:
        busy = steal = 0
        self._all_cores = set[int]()
        for line in (_PROC / "stat").read_text().splitlines():
            name, *fields = line.split()
            core = name.removeprefix("cpu")
            if core == name or not core:
                continue
            self._all_cores.add(int(core))
            if int(core) in self._cores:
                # user, nice, system; idle, iowait, irq, softirq; steal. Time of interrupts belongs
                # to no process, and loopback traffic of ours is part of it.
                busy += sum(int(field) for field in fields[:3])
                steal += int(fields[7])
        ticks = sum(_ticks(int(one.name)) for one in _PROC.iterdir() if one.name.isdecimal())
        own_s, now_s = cpu_s(os.getpid()), time.monotonic()
        return ticks * _TICK_S, own_s, busy * _TICK_S, steal * _TICK_S, now_s


def _ticks(pid: int) -> int:
    """CPU of a process; utime, stime, cutime, cstime: of a child that ended, from then on, too."""
    return sum(int(field) for field in _stat(pid)[11:15])


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from `state` on; none if the process has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name before may hold anything, parentheses and spaces too.
    return text.rpartition(")")[2].split()
