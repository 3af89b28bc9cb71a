"""All planted bugs, by name."""

import os
from collections.abc import Mapping

from tests.faults.sabotage import gateway, inventory, order, rollback
from tests.faults.sabotage.edits import Sabotage

# Names the bug that a test process and its stages run with; empty or unset: none.
VARIABLE = "SECKILL_TEST_SABOTAGE"
SABOTAGES: Mapping[str, Sabotage] = {
    sabotage.name: sabotage
    for module in (inventory, order, rollback, gateway)
    for sabotage in module.SABOTAGES
}


def find(name: str) -> Sabotage:
    """The bug of that name; raises SystemExit that tells which there are."""
    try:
        return SABOTAGES[name]
    except KeyError:
        raise SystemExit(f"no bug {name!r}: there are {', '.join(sorted(SABOTAGES))}") from None


def chosen(env: Mapping[str, str] = os.environ) -> str:
    """Name of the bug that the environment asks for, or ""."""
    return env.get(VARIABLE, "")
