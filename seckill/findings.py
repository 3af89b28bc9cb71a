"""Checks before a sale, as values: what is expected, and what was found."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from seckill.v1 import preflight_pb2

Verdict: TypeAlias = "preflight_pb2.PreflightVerdict.ValueType"
OK = preflight_pb2.PREFLIGHT_VERDICT_OK
WARNING = preflight_pb2.PREFLIGHT_VERDICT_WARNING
FAILED = preflight_pb2.PREFLIGHT_VERDICT_FAILED
UNKNOWN = preflight_pb2.PREFLIGHT_VERDICT_UNKNOWN
# Purchase tokens of another replica are taken with clocks that differ by so much.
CLOCK_SKEW_MAX_S = 5.0
# More than this shows at the start and the end of a sale.
CLOCK_SKEW_FINE_S = 0.5
_SYNC = "let one time service (chrony, ntpd) set the clocks of all machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who is expected.

    Attributes:
        buyers: who come.
        units: for sale.
        seconds: within which the buyers come.
        end_s: Unix time at which the sale ends.
    """

    buyers: int
    units: int
    seconds: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says.

    Attributes:
        name: what was looked at.
        found: in words.
        advice: what to do about it; "" if nothing.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


# Returns what it finds for a crowd; DependencyUnavailable if a store does not answer.
Check = Callable[[Crowd], Awaitable[Sequence[Finding]]]


def judged(name: str, problems: Sequence[str] | None, *, advice: str, verdict: Verdict) -> Finding:
    """Return the finding of a look at settings (seckill.runtime.safety).

    Args:
        problems: a sentence for each; None if the store does not let us look.
        advice: what to do about problems.
        verdict: of problems.
    """
    if problems is None:
        return Finding(name, WARNING, "its settings cannot be read", f"by hand: {advice}")
    if problems:
        return Finding(name, verdict, "; ".join(problems), advice)
    return Finding(name, OK, "keeps what it acknowledges")


def clock_finding(name: str, ahead_s: float) -> Finding:
    """Return what a difference between two clocks, in seconds, means."""
    found = f"differs by {abs(ahead_s) * 1000:.0f} ms"
    if abs(ahead_s) >= CLOCK_SKEW_MAX_S:
        return Finding(name, FAILED, found, _SYNC)
    if abs(ahead_s) >= CLOCK_SKEW_FINE_S:
        return Finding(name, WARNING, found, _SYNC)
    return Finding(name, OK, found)
