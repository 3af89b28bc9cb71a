"""What is said of an open loop: how it ended, and whether the generator kept to its schedule."""

from collections.abc import Sequence

from bench.sample import Sample

# A generator that has used more of its cores, or left out more, is too slow for the schedule.
GENERATOR_MAX = 0.98
STARVED_MAX = 0.01


def generator_fault(offered: Sample) -> str:
    """Why the generator did not keep to its schedule; empty if it did."""
    due = offered.calls + offered.held_back + offered.starved
    if offered.starved > STARVED_MAX * due:
        return f"the generator had no time for {offered.starved / due:.0%} of the calls"
    if offered.generator > GENERATOR_MAX:
        return f"the generator used {offered.generator:.0%} of its cores"
    return ""


def remark(offered: Sample, rate_per_s: float, peak_per_s: float, pays: Sequence[Sample]) -> str:
    """What was offered and how it ended, for the table."""
    found = sorted(offered.statuses.items(), key=lambda one: -one[1])
    parts = [
        f"{rate_per_s:,.0f}/s due ({rate_per_s / peak_per_s:.1f} times)",
        f"generator {offered.generator:.0%} of its core",
        *(f"{count / offered.calls:.1%} {status}" for status, count in found),
    ]
    if offered.held_back:
        parts.append(f"{offered.held_back:,} more could not be sent in time")
    if offered.starved:
        parts.append(f"{offered.starved:,} more left out by the generator")
    if offered.repeated:
        parts.append(f"{offered.repeated:,} sent again")
    if offered.reconnects:
        parts.append(f"{offered.reconnects} connections closed by the server")
    parts += [f"{one.statuses.get('OK', 0)} of {one.calls} paid meanwhile" for one in pays]
    return ", ".join(parts)
