"""The figures for people: a table in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.bots.callers import ATTACKERS

HEAD = (
    "attacker",
    "gate",
    "bots' share of units",
    "people challenged",
    "people refused",
    "CPU s a unit",
    "addresses a unit",
    "accounts a unit",
)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table; sales that a busy machine has decided are marked."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for kind in ATTACKERS:
        for gate, word in (("gate_off", "off"), ("gate_on", "on")):
            found = document[kind][gate]
            unfit = document["sales"][kind][gate]["unfit"]
            cells = [
                kind.value,
                f"{word} (unfit)" if unfit else word,
                f"{100 * found['bot_share']:.1f} %",
                f"{100 * found['people_challenged']:.1f} %",
                # One person of 5,000 is to be seen.
                f"{100 * found['people_refused']:.2f} %",
                *map(_cost, found["attacker_cost"].values()),
            ]
            yield f"| {' | '.join(cells)} |"


def _cost(value: float | None) -> str:
    return "none got" if value is None else f"{value:.3g}"
