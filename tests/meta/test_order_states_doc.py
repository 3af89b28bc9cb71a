"""docs/order-states.md names tests that exist, and leaves no movement of the ledger out."""

import re
from pathlib import Path

from order_svc.audit.ledger import STEPS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/order-states.md").read_text()


def test_named_tests_exist() -> None:
    """Each `file::test` is a function of that file."""
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", TEXT)
    assert len(named) > 10
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def test_every_movement_has_its_arrow() -> None:
    """All kinds of rows that an order can have stand in the table."""
    table = TEXT[: TEXT.index("## Where two arrows meet")]
    assert all(f"| `{kind}` |" in table for kind in STEPS if kind)


def test_named_statements_exist() -> None:
    """Each statement of the table is a file."""
    rows = re.findall(r"^\| \d \| [^|]+ \| `(\w+)`", TEXT, re.MULTILINE)
    assert len(rows) == 12
    assert all(len([*(ROOT / "order_svc").glob(f"*/sql/{name}.sql")]) == 1 for name in rows)
