"""The services' settings as JSON Schema: names, types, bounds and choices, from their models."""

from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from tools.chart.names import no_such_name
from tools.chart_rules import SETTINGS

ALL = "all"
# What the chart itself sets, from other values: a second way would let the two disagree.
MANAGED = frozenset(
    {
        "failpoints",
        "drain_timeout_s",
        "kafka_bootstrap",
        "mesh_tls_certificate",
        "mesh_tls_key",
        "mesh_tls_ca",
        "mesh_tls_domain",
        "orders_topic",
        "dead_letter_topic",
        "order_events_topic",
        "gateway_jwks",
        "gateway_jwt_issuer",
        "gateway_jwt_audience",
        "order_operator_jwks",
        "order_operator_jwt_issuer",
        "order_operator_jwt_audience",
        "edge_directory",
        "edge_stats_listen",
    }
)
MANAGED_ENDINGS = ("_listen", "_target")
_NETWORK = r"[0-9a-fA-F.:]+(/[0-9]{1,3})?"
# Of texts, what their services take.
PATTERNS = {
    "gateway_ip_exempt": rf"^({_NETWORK}(, *{_NETWORK})*)?$",
    "gateway_trusted_proxies": rf"^({_NETWORK}(, *{_NETWORK})*)?$",
    "edge_cors_origins": r"^(\*|https?://[^,/\s]+(, *https?://[^,/\s]+)*)?$",
    "edge_attestation_origins": r"^(https?://[^,/\s]+(, *https?://[^,/\s]+)*)?$",
}
_KEPT = (
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
)


def name_of(service: str) -> str:
    """Return the definition's name: of one service's settings, or of those of all."""
    return f"settings.{service}"


def definitions() -> dict[str, Any]:
    """Return one object for each service, and one with what any of them has."""
    each = {service: _settings(model) for service, model in SETTINGS.items()}
    every: dict[str, Any] = {}
    for known in each.values():
        every |= {name: schema for name, schema in known.items() if name not in every}
    return {
        name_of(service): {
            "type": "object",
            "properties": known,
            "additionalProperties": no_such_name(known),
        }
        for service, known in {**each, ALL: every}.items()
    }


def _settings(model: type[BaseSettings]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        managed = name in MANAGED or name.endswith(MANAGED_ENDINGS)
        # Secrets have Secrets.
        if managed or field.annotation is SecretStr:
            continue
        schema = {key: properties[name][key] for key in _KEPT if key in properties[name]}
        if name in PATTERNS:
            schema["pattern"] = PATTERNS[name]
        found[name] = schema
    return found
