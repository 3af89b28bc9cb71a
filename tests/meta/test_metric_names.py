"""A metric is called the same in the code as in Prometheus."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("seckill", "gateway", "inventory_svc", "order_svc", "rollback_svc", "edge")
KINDS = {"Counter", "Gauge", "Histogram", "Summary"}


def declared() -> Iterator[tuple[str, str]]:
    """Yield (object's name, exported name) of each metric that a module declares."""
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            called, name = node.value.func, node.targets[0]
            if isinstance(called, ast.Name) and called.id in KINDS and isinstance(name, ast.Name):
                exported = node.value.args[0]
                assert isinstance(exported, ast.Constant), ast.unparse(node)
                yield name.id, str(exported.value)


def test_objects_are_named_as_they_are_exported() -> None:
    """In upper case, without the prefix; `_TOTAL` is in both names or in none."""
    names = dict(declared())
    assert len(names) > 50
    wrong = {
        name: exported
        for name, exported in names.items()
        if name != exported.removeprefix("seckill_").upper()
    }
    assert wrong == {}
