"""Cores that processes share, and processes that work through a queue on them."""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from simpy import Environment, Event

# Less work than this is done: what remains is an error of floating point.
DONE_S = 1e-9
# Of Linux's scheduler: a step of niceness is so many times the share of a core.
NICE_STEP = 1.25


def weight_of(nice: int) -> float:
    """Return the share of a core that a process of this niceness gets beside one of niceness 0."""
    return float(NICE_STEP**-nice)


@dataclass(eq=False, slots=True)
class _Work:
    left_s: float
    weight: float
    done: Event
    speed: float = 0.0


class Cores:
    """Cores that are divided as the kernel does: by weight, at most one core for a piece of work.

    That is processor sharing: with one core and equal weights the mean time in an M/G/1 queue is
    that of M/M/1, whatever the distribution of the work.
    """

    def __init__(self, env: Environment, count: float) -> None:
        """`count`: cores; a part of one is a limit such as a container's."""
        self._env = env
        self.count = count
        self.busy_s = 0.0
        self._running: list[_Work] = []
        self._at_s = env.now
        self._plans = 0

    def run(self, seconds: float, *, weight: float = 1.0) -> Event:
        """Return an event for the end of work that takes so many seconds of one core."""
        done = self._env.event()
        if seconds <= DONE_S:
            done.succeed()
            return done
        self._advance()
        self._running.append(_Work(seconds, weight, done))
        self._plan()
        return done

    def _advance(self) -> None:
        passed_s = self._env.now - self._at_s
        self._at_s = self._env.now
        if not passed_s:
            return
        for work in self._running:
            work.left_s -= passed_s * work.speed
            self.busy_s += passed_s * work.speed

    def _plan(self) -> None:
        """Divide the cores, and wake at the next end of a piece of work."""
        self._plans += 1
        if not self._running:
            return
        self._divide()
        next_s = min(work.left_s / work.speed for work in self._running)
        timeout = self._env.timeout(max(next_s, 0.0), value=self._plans)
        assert timeout.callbacks is not None  # noqa: S101 - it has just been made
        timeout.callbacks.append(self._wake)

    def _divide(self) -> None:
        if len(self._running) <= self.count:
            for work in self._running:
                work.speed = 1.0
            return
        # Whoever is due more than one core has one; the others divide what remains.
        left, rest = self.count, self._running
        while rest:
            weights = sum(work.weight for work in rest)
            full = [work for work in rest if left * work.weight >= weights]
            if not full:
                for work in rest:
                    work.speed = left * work.weight / weights
                return
            for work in full:
                work.speed = 1.0
            left -= len(full)
            rest = [work for work in rest if work not in full]

    def _wake(self, timeout: Event) -> None:
        if timeout.value != self._plans:
            return
        self._advance()
        ended = [work for work in self._running if work.left_s <= DONE_S]
        self._running = [work for work in self._running if work.left_s > DONE_S]
        self._plan()
        for work in ended:
            work.done.succeed()


class Server:
    """A process: pieces of work in the order in which they come, `width` of them at once.

    Attributes:
        busy_s: seconds of a core that it has used.
    """

    def __init__(
        self, env: Environment, cores: Cores, *, width: int = 1, weight: float = 1.0
    ) -> None:
        """
        Args:
            cores: its own, or shared with others.
            width: threads, connections or workers.
            weight: its share of cores that are not enough for all.
        """
        self._env = env
        self._cores = cores
        self._width = width
        self._weight = weight
        self._waiting: deque[tuple[float, Event]] = deque()
        self._running = 0
        self.busy_s = 0.0

    def work(self, seconds: float) -> Event:
        """Return an event for the end of a piece of work, which waits for those before it."""
        done = self._env.event()
        self._waiting.append((seconds, done))
        self._start()
        return done

    def _start(self) -> None:
        while self._waiting and self._running < self._width:
            seconds, done = self._waiting.popleft()
            self._running += 1
            self._env.process(self._run(seconds, done))

    def _run(self, seconds: float, done: Event) -> Generator[Event, Any, None]:
        yield self._cores.run(seconds, weight=self._weight)
        self._running -= 1
        self.busy_s += seconds
        done.succeed()
        self._start()
