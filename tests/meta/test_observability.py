"""Alerts and dashboards name metrics that exist, and the runbook has a section for each alert."""

import re
from pathlib import Path

import pytest
import typer.main
import yaml

from seckill.v1 import errors_pb2
from seckill_cli import app
from tools.observability import expressions
from tools.observability.expressions import Expression

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()
# Name → (type, labels), of what the services export.
OWN = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", REFERENCE, re.MULTILINE
    )
}
# What others export: Envoy, the client library, Prometheus itself, the stores' exporters.
OTHERS = {
    "envoy_server_days_until_first_cert_expiring",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "redis_up",
    "redis_memory_used_bytes",
    "redis_memory_max_bytes",
    "redis_commands_processed_total",
    "redis_evicted_keys_total",
    "redis_connected_clients",
    "redis_connected_slaves",
    "pg_up",
    "pg_stat_database_xact_commit",
    "pg_stat_database_deadlocks",
    "pg_stat_activity_count",
    "pg_database_size_bytes",
    "kafka_brokers",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_consumergroup_lag",
}
# Labels that Prometheus adds.
ADDED = {"instance", "job", "le"}
EXPRESSIONS = [*expressions.of_alerts(), *expressions.of_dashboards()]
MATCHERS = re.compile(r"(\w+)\{([^}]*)\}")


def exported(name: str) -> str | None:
    """Return the metric of a series' name; None if no service exports it."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        metric = name.removesuffix(suffix)
        if metric in OWN and (OWN[metric][0] == "histogram") is bool(suffix):
            return metric
    return None


@pytest.mark.parametrize("one", EXPRESSIONS, ids=[one.where for one in EXPRESSIONS])
def test_each_metric_exists_with_its_labels(one: Expression) -> None:
    """Names are those of docs/reference, or on the list of what others export."""
    assert one.metrics
    for name in one.metrics:
        assert exported(name) or name in OTHERS, name
    for name, matchers in MATCHERS.findall(one.query):
        metric = exported(name)
        if metric is not None:
            used = set(re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', '""', matchers)))
            assert used <= OWN[metric][1] | ADDED, name


def test_nothing_is_on_the_list_of_others_for_nothing() -> None:
    """What no expression reads is taken off the list."""
    assert {name for one in EXPRESSIONS for name in one.metrics} >= OTHERS


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    """Severity and texts are there; the link leads to the section."""
    sections = re.findall(r"^### (Seckill\w+)$", RUNBOOK, re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert {rule["alert"] for rule in expressions.alerts()} == set(sections)
    for rule in expressions.alerts():
        notes = rule["annotations"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert notes["summary"].endswith(".")
        assert notes["description"].endswith(".")
        assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_links_within_the_runbook_lead_to_headings() -> None:
    """As they are made of headings: lower case, hyphens for spaces."""
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= headings


def test_each_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    """promtool runs them (tools/check_observability.py); here one sees that none lacks."""
    tested = {}
    for path in (ROOT / "deploy/observability/tests").glob("*.yaml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            found = [bool(case["exp_samples"]) for case in test["promql_expr_test"]]
            assert all(test["name"] in case["expr"] for case in test["promql_expr_test"])
            tested[test["name"]] = found
    assert tested == {rule["alert"]: [False, True] for rule in expressions.alerts()}


def test_series_of_the_tests_are_those_of_the_rules() -> None:
    """A test of a metric that the rule does not read shows nothing."""
    read = {one.where: one.metrics for one in expressions.of_alerts()}
    for path in (ROOT / "deploy/observability/tests").glob("*.yaml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            given = {one["series"].partition("{")[0] for one in test["input_series"]}
            assert given <= read[test["name"]], test["name"]


def test_the_runbook_names_reasons_that_exist() -> None:
    """What a command or a buyer is told, as errors.proto has it."""
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", RUNBOOK))
    reasons = {name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items()}
    assert {name for name in named if not name.startswith("SECKILL_")} <= reasons
    assert "PIPELINE_BUSY" in named


def test_the_runbook_names_commands_that_exist() -> None:
    """Each `seckill …` of a code block or in code style is a command with these subcommands."""
    group = typer.main.get_command(app)
    lines = re.findall(r"^seckill ([^\n#]+)", RUNBOOK, re.MULTILINE)
    lines += re.findall(r"`seckill ([^`]+)`", RUNBOOK)
    assert len(lines) > 40
    for line in lines:
        command, words = group, line.split()
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word in options, line
