"""Clocks of processes."""

import os
import subprocess
import sys
import time

from bench.cores import Meter, children_on, cpu_s, pin, resident_mib, tree

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def test_ended_children_still_count() -> None:
    """What a process has had done by others, who have ended since, is part of its cost."""
    before_s = cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.2)], check=True)
    assert cpu_s(os.getpid()) - before_s > 0.15


def test_children_start_where_told() -> None:
    """What is started inside the block runs on its cores; this thread goes back to its own."""
    mine = os.sched_getaffinity(0)
    core = {max(mine)}
    with children_on(core):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert os.sched_getaffinity(child.pid) == core
        assert os.sched_getaffinity(0) == mine
        assert child.pid in tree(os.getpid())
        pin(child.pid, mine)
        assert os.sched_getaffinity(child.pid) == mine
        deadline_s = time.monotonic() + 5
        while resident_mib(child.pid) == 0 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert resident_mib(child.pid) > 0
    finally:
        child.communicate(b"\n")


def test_work_of_others_is_a_disturbance() -> None:
    """A process that this one has not started, or no longer has, takes a share of the cores."""
    meter = Meter()
    burn = BURN.format(seconds=0.5)
    subprocess.run(["/bin/sh", "-c", 'setsid -f "$0" -c "$1"', sys.executable, burn], check=True)
    time.sleep(1.0)
    seen = meter.read()
    assert seen.others > 0.1
    assert 0 <= seen.steal <= len(os.sched_getaffinity(0))


def test_a_process_that_has_ended_costs_nothing() -> None:
    """A process may end while it is being looked at."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cpu_s(child.pid) == 0
    assert resident_mib(child.pid) == 0
