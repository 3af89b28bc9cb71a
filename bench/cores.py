"""Cores and clocks of processes, from /proc (Linux)."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
# The kernel's lowest priority: runs where nobody else wants to.
LOWEST_NICE = 19


@dataclass(frozen=True)
class Cores:
    """Which cores the measured servers have, and which everything else.

    Attributes:
        servers: what is compared runs here, on one core.
        others: the load, the harness, and stores that are not on the path of a press.
    """

    servers: frozenset[int]
    others: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """The first core that this process may use for the servers, all further ones for the rest.

        Raises:
            RuntimeError: there is only one.
        """
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise RuntimeError("two cores are needed: one for the servers, one for the load")
        return cls(frozenset(usable[:1]), frozenset(usable[1:]))


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
        except (FileNotFoundError, ProcessLookupError):
            continue


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, those that ended included."""
    ticks = 0
    for one in tree(pid):
        fields = _stat(one)
        # utime, stime, cutime, cstime: a child that ended is counted by its parent from then on.
        ticks += sum(int(field) for field in fields[11:15])
    return ticks * _TICK_S


def resident_mib(pid: int) -> float:
    """Memory that a process and its descendants hold; pages they share count once for each."""
    pages = sum(int(fields[21]) for fields in map(_stat, tree(pid)) if fields)
    return pages * _PAGE_BYTES / 2**20


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from `state` on; none where the process has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name before may hold anything, parentheses and spaces too.
    return text.rpartition(")")[2].split()
