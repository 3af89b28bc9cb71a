"""Envoy's configuration as JSON: the forms that all its parts use."""

from typing import Any

Json = dict[str, Any]


def typed(type_name: str, **fields: Any) -> Json:
    """Return a message with its type, e.g. `envoy.config.route.v3.FilterConfig`."""
    return {"@type": f"type.googleapis.com/{type_name}", **fields}


def extension(name: str, type_name: str, **fields: Any) -> Json:
    """Return an extension by name, with its configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def seconds(value_s: float) -> str:
    """Return a duration as Envoy reads it, to the millisecond."""
    return f"{value_s:.3f}s"


def address_of(listen: str) -> Json:
    """Return the address of "host:port"; an IPv6 host may be in brackets."""
    host, _, port = listen.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def switched_off(*filters: str) -> Json:
    """Return the part of a route that switches these HTTP filters off for its requests."""
    off = typed("envoy.config.route.v3.FilterConfig", disabled=True)
    return {"typed_per_filter_config": dict.fromkeys(filters, off)}


def overwritten(name: str, value: str) -> Json:
    """Return a header that replaces one of the same name."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
