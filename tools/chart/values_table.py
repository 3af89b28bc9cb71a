"""The table of values in deploy/k8s/README.md, generated from values.yaml and its comments."""

import json
from collections.abc import Iterator, Sequence

import yaml

from tools.chart.schema import CHART
from tools.markdown import table

README = CHART / "README.md"
BEGIN = "<!-- Generated from values.yaml by `make generate`: change that, not this. -->\n"
END = "<!-- End of the generated table. -->\n"
HEADER = ("value", "default", "meaning")
# What a name means wherever it stands without a comment of its own.
COMMON = {
    "affinity": "As in a pod.",
    "agent.resources": "Of the agent's containers.",
    "className": "Class of the Ingress.",
    "commonAnnotations": "Annotations of every object.",
    "liveness": "Whether the process runs.",
    "metricRelabelings": "Rules for what targets answer.",
    "readiness": "Whether it takes calls.",
    "renewBefore": "How long before its end a new one is asked for.",
    "startup": "Until it has started.",
    "stores.kafka": "Port of Kafka, and where.",
    "stores.postgres": "Port of Postgres, and where.",
    "stores.redis": "Port of Redis, and where.",
    "annotations": "Its annotations.",
    "audience": "The `aud` of tokens.",
    "autoscaling": "As for the gateway.",
    "enabled": "Whether it is there.",
    "existingConfigMap": "Its name and key.",
    "existingSecret": "Its name and key.",
    "filters": "Filters of its one rule.",
    "hostnames": "Hosts that it takes.",
    "interval": "Between two looks.",
    "labels": "Further labels.",
    "maxReplicas": "At most.",
    "minReplicas": "At least.",
    "nodeSelector": "As in a pod.",
    "podAnnotations": "Further annotations of pods.",
    "podDisruptionBudget": "How many pods a drain may take at once.",
    "podLabels": "Further labels of pods.",
    "port": "Its port.",
    "priorityClassName": "As in a pod.",
    "pullPolicy": "As in a container.",
    "replicaCount": "Pods.",
    "repository": "Image, without its tag.",
    "required": "Whether each client must have one.",
    "resources": "As in a container.",
    "service": "Further annotations and labels of its headless Service.",
    "serviceAccount": "As for the gateway.",
    "settings": "SECKILL_* settings of this service alone; they win over `settings`.",
    "tag": "Tag of the image.",
    "targetCPUUtilizationPercentage": "Of the requests.",
    "targetMemoryUtilizationPercentage": "Of the requests.",
    "tolerations": "As in a pod.",
    "type": "Type of the Service.",
    "url": "Where it is read over HTTP.",
}
# A field of these is told of once, for the gateway.
_TOLD = ("metrics", "behavior")
# What is one value, though it has parts.
_WHOLE = frozenset(
    ("settings", "resources", "podSecurityContext", "containerSecurityContext", "strategy")
)


def render() -> tuple[str, list[str]]:
    """Return the README with the table, and the values that have no meaning."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README} has no place for the table of values")
    missing: list[str] = []
    return before + begin + "\n" + table(HEADER, _rows(missing)) + "\n" + end + after, missing


def _rows(missing: list[str]) -> list[tuple[str, ...]]:
    source = (CHART / "values.yaml").read_text(encoding="utf-8")
    rows = []
    for path, default, comment in values(yaml.compose(source), source.splitlines(), ""):
        told = meaning(path, comment)
        if not told:
            missing.append(f"deploy/k8s/values.yaml: {path}")
        cells = (f"`{path}`", f"`{default}`" if default else "", told)
        rows.append(tuple(cell.replace("|", "\\|") for cell in cells))
    return rows


def meaning(path: str, comment: str) -> str:
    """Return what a value means: its comment, or what its name means everywhere; else nothing."""
    if comment:
        return comment
    for length in (2, 1):
        common = COMMON.get(".".join(path.split(".")[-length:]))
        if common:
            return common
    return "As for the gateway." if path.rpartition(".")[2] in _TOLD else ""


def values(
    node: yaml.Node | None, lines: Sequence[str], prefix: str
) -> Iterator[tuple[str, str, str]]:
    """Find each value: path, default, comment. A group is one if it has a comment."""
    if not isinstance(node, yaml.MappingNode):
        raise TypeError(f"{prefix or 'the file'} is no map of values")
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        comment = _comment_above(lines, key.start_mark.line)
        group = isinstance(value, yaml.MappingNode) and not value.flow_style
        if group and key.value not in _WHOLE:
            if comment:
                yield path, "", comment
            yield from values(value, lines, f"{path}.")
        else:
            default = yaml.SafeLoader("").construct_document(value)
            yield path, json.dumps(default, ensure_ascii=False), comment


def _comment_above(lines: Sequence[str], line: int) -> str:
    words: list[str] = []
    indent = len(lines[line]) - len(lines[line].lstrip())
    for above in reversed(lines[:line]):
        if not above.startswith(" " * indent + "#"):
            break
        words.insert(0, above.strip().removeprefix("#").strip())
    return " ".join(words)
