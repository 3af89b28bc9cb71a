"""The chart's generated schema and table say what the code says."""

import json
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tools.chart import schema, setting_types, values_table
from tools.chart.names import no_such_name

SCHEMA: dict[str, Any] = json.loads(schema.build())
SETTINGS = SCHEMA["definitions"]


def test_settings_have_the_types_bounds_and_choices_of_their_models() -> None:
    """A number with its bounds, a choice, a truth value, a text of a form."""
    known = SETTINGS[setting_types.name_of("gateway")]["properties"]
    assert known["gateway_batch_max"] == {"type": "integer", "minimum": 1, "maximum": 1024}
    assert known["gateway_front"]["enum"] == ["http2", "grpcio"]
    assert known["gateway_sandbox_payments"] == {"type": "boolean"}
    assert "pattern" in known["gateway_trusted_proxies"]


def test_secrets_and_what_the_chart_makes_are_no_settings() -> None:
    """A Secret is named instead, and there is one way to set an address."""
    for definition in (setting_types.name_of("gateway"), setting_types.name_of(setting_types.ALL)):
        names = SETTINGS[definition]["properties"].keys()
        assert not {"gateway_token_keys", "inventory_target", "gateway_listen"} & names
    managed = {name for name in setting_types.MANAGED if name.startswith("gateway_")}
    assert managed <= GatewaySettings.model_fields.keys()


def test_every_object_lists_its_names() -> None:
    """So that each refusal of a name says which there are."""
    waiting = [SCHEMA]
    while waiting:
        node = waiting.pop()
        if node.get("properties"):
            assert node["additionalProperties"] == no_such_name(node["properties"])
        parts = [*node.get("properties", {}).values(), node.get("items")]
        waiting += [part for part in parts if isinstance(part, dict)]


def test_values_without_a_meaning_are_named() -> None:
    """A comment gives one, as does a name that means the same everywhere; a group may have none."""
    text = "# Told.\nfirst: 1\nsecond: 2\ngroup:\n  enabled: false\n  third: {a: 1}\n"
    rows = values_table.values(yaml.compose(text), text.splitlines(), "")
    assert [(path, default, values_table.meaning(path, told)) for path, default, told in rows] == [
        ("first", "1", "Told."),
        ("second", "2", ""),
        ("group.enabled", "false", "Whether it is there."),
        ("group.third", '{"a": 1}', ""),
    ]


def test_a_value_that_the_schema_does_not_know_is_an_error() -> None:
    """The generator tells; else nobody could set it."""
    node = {"type": "object", "properties": {"known": {"type": "integer"}}}
    with pytest.raises(ValueError, match="unknown"):
        schema.complete(node, {"known": 1, "unknown": 2}, set())
