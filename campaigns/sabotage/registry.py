"""All planted bugs, by name."""

from collections.abc import Mapping

from campaigns.sabotage import gateway, inventory, order, rollback
from campaigns.sabotage.edits import Sabotage

SABOTAGES: Mapping[str, Sabotage] = {
    sabotage.name: sabotage
    for module in (inventory, order, rollback, gateway)
    for sabotage in module.SABOTAGES
}


def find(name: str) -> Sabotage:
    """Return the bug of that name; raises SystemExit with all names if there is none."""
    try:
        return SABOTAGES[name]
    except KeyError:
        raise SystemExit(f"no bug {name!r}: there are {', '.join(sorted(SABOTAGES))}") from None
