"""Types of Kubernetes as JSON Schema, from what the kubernetes-validate wheel carries."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate

from tools.chart.names import no_such_name

PREFIX = "io.k8s.api."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# What schemas of Kubernetes leave open: "lots" is a string, but no quantity.
_QUANTITY_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?|Ki|e[0-9]+)?$"},
        {"type": "number", "minimum": 0},
    ]
}
_REFERENCE = re.compile(r'"#/definitions/([^"]+)"')
_DROPPED = ("description", "format")


def definitions(names: Iterable[str]) -> dict[str, Any]:
    """Return these types of the newest version that is known, and those that they refer to."""
    version = kubernetes_validate.utils.all_versions()[-1]
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    path = folder / f"v{version}-local-strict" / "_definitions.json"
    known = json.loads(path.read_text(encoding="utf-8"))["$defs"]
    found: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = _QUANTITY_SCHEMA if name == QUANTITY else _plain(known[name])
        waiting += _REFERENCE.findall(json.dumps(found[name]))
    return found


def _plain(node: Any) -> Any:
    """Return a schema without prose, with the names that an object may have."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    done = {
        key: _plain(value)
        for key, value in node.items()
        if not key.startswith("x-kubernetes-") and not (key in _DROPPED and isinstance(value, str))
    }
    if "$ref" in done:
        done["$ref"] = done["$ref"].replace("#/$defs/", "#/definitions/")
    if isinstance(done.get("properties"), dict) and done.get("additionalProperties") is False:
        done["additionalProperties"] = no_such_name(done["properties"])
    return done
