"""The CPU that a process has used, and what of it there is (Linux)."""

import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from seckill.v1 import preflight_pb2

# This process, until it ends.
INSTANCE = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
# Returns what is known of processes beside the service's own.
ReadUsage = Callable[[], Awaitable[Sequence[preflight_pb2.StageUsage]]]
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def own_usage(service: str) -> preflight_pb2.StageUsage:
    """Return what this process has used; its work is done in one thread."""
    return preflight_pb2.StageUsage(
        name=service,
        instance=INSTANCE,
        cpu_seconds=time.process_time(),
        cores=min(1.0, cores_here()),
        shared_cores=place(os.getpid()),
        shared_cores_count=min(float(len(os.sched_getaffinity(0))), cores_here()),
    )


def cores_here() -> float:
    """Return the cores that this process may use at once, by its control group and affinity."""
    allowed = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        return allowed if quota == "max" else min(allowed, int(quota) / int(period))
    except (OSError, ValueError):
        return allowed


def place(pid: int) -> str:
    """Return where a process of this machine runs, "" if that is not known."""
    try:
        cores = sorted(os.sched_getaffinity(pid))
    except OSError:
        return ""
    return f"{socket.gethostname()}:{','.join(map(str, cores))}"


def cores_of(pid: int) -> int:
    """Return how many cores a process of this machine may use; 0 if that is not known."""
    try:
        return len(os.sched_getaffinity(pid))
    except OSError:
        return 0
