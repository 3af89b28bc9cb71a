"""The tally for people and for programs."""

from collections import Counter
from typing import Any

from bench.flow.tally import FAULTS, Ending, Span, Tally

PERCENTILES = (50, 95, 99)


def percentile_ms(buckets: Counter[int], percent: float) -> int:
    """The bucket (its lower bound) that so many percent of all lie in or below; 0 without any."""
    wanted = buckets.total() * percent / 100
    seen = 0
    for at_ms in sorted(buckets):
        seen += buckets[at_ms]
        if seen >= wanted:
            return at_ms
    return 0


def figures(tally: Tally) -> dict[str, Any]:
    """All that was counted, for a file."""
    return {
        "visits": tally.visits,
        "endings": {ending.value: tally.endings[ending] for ending in Ending},
        "broken_promises": dict(tally.broken),
        "faults": tally.faults,
        "late_visits": tally.late,
        "purchased_within_s": purchased_within_s(tally),
        "spans_ms": {
            span.value: {f"p{percent}": percentile_ms(found, percent) for percent in PERCENTILES}
            | {"count": found.total()}
            for span, found in tally.spans_ms.items()
        },
    }


def purchased_within_s(tally: Tally) -> float:
    """Return the seconds between the first buyer's first purchase and the last buyer's."""
    return round(max(0.0, tally.last_sent_s - tally.first_sent_s), 2) if tally.last_sent_s else 0


def lines(tally: Tally) -> list[str]:
    """The same as a table."""
    unended = tally.visits - tally.ended
    told = [
        f"{tally.visits:,} visits; first purchases within {purchased_within_s(tally):.2f} s",
        "",
    ]
    told += [
        f"{ending.value:<26}{tally.endings[ending]:>9,}{'  !' if ending in FAULTS else ''}"
        for ending in Ending
        if tally.endings[ending]
    ]
    told += [f"{'cut off by the end':<26}{unended:>9,}"] if unended else []
    told += [f"{'late for the pace':<26}{tally.late:>9,}"] if tally.late else []
    told += [f"BROKEN PROMISE: {promise:<26}{count:>9,}" for promise, count in tally.broken.items()]
    head = "".join(f"{f'p{percent}':>9}" for percent in PERCENTILES)
    told += ["", f"{'what a buyer waits for':<26}{'count':>9}{head}  ms"]
    for span in Span:
        found = tally.spans_ms[span]
        row = "".join(f"{percentile_ms(found, percent):>9,}" for percent in PERCENTILES)
        told.append(f"{span.value:<26}{found.total():>9,}{row}")
    return told
