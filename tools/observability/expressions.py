"""The expressions in alert rules and dashboards, and the metrics that they name."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tools.install import ROOT

FOLDER = ROOT / "deploy" / "observability"
ALERTS = FOLDER / "alerts.yaml"
DASHBOARDS = FOLDER / "dashboards"
# What Grafana puts in, and what stands for it elsewhere.
VARIABLES = {"$__rate_interval": "1m", "$__range": "10m", "$sku": ".*"}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")
# In braces are labels; behind these words are, too.
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NO_METRICS = frozenset(
    [
        "and",
        "or",
        "unless",
        "bool",
        "offset",
        "sum",
        "min",
        "max",
        "avg",
        "count",
        "topk",
        "bottomk",
        "by",
        "without",
        "on",
        "ignoring",
        "absent",
        "rate",
        "irate",
        "increase",
        "delta",
        "time",
        "vector",
        "scalar",
        "clamp_min",
        "clamp_max",
        "label_replace",
        "max_over_time",
        "min_over_time",
        "histogram_quantile",
        "group_left",
        "group_right",
        "inf",
        "nan",
        "sort_desc",
    ]
)


@dataclass(frozen=True)
class Expression:
    """One expression.

    Attributes:
        where: which alert or panel has it.
        query: PromQL, without variables.
    """

    where: str
    query: str

    @property
    def metrics(self) -> set[str]:
        """The names of the series that it reads."""
        bare = _LABELS.sub(" ", _QUOTED.sub('""', self.query))
        bare = re.sub(r"\[[^\]]*\]", " ", bare)
        return {word for word in _WORD.findall(bare) if word.lower() not in _NO_METRICS}


def alerts() -> list[dict[str, Any]]:
    """Return all alert rules."""
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def of_alerts() -> list[Expression]:
    """Return the expressions of the alert rules."""
    return [Expression(rule["alert"], rule["expr"]) for rule in alerts()]


def of_dashboards() -> list[Expression]:
    """Return the expressions of all dashboards."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for panel in _panels(dashboard["panels"]):
            for target in panel.get("targets", ()):
                where = f"{path.stem}: {panel['title']}"
                found.append(Expression(where, _plain(target["expr"])))
    return found


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _plain(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query
