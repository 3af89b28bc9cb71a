"""Envoy's configuration as JSON: what all its parts need."""

from typing import Any

Json = dict[str, Any]


def typed(type_name: str, **fields: Any) -> Json:
    """A message whose type stands beside its fields, e.g. `envoy.config.route.v3.FilterConfig`."""
    return {"@type": f"type.googleapis.com/{type_name}", **fields}


def extension(name: str, type_name: str, **fields: Any) -> Json:
    """An extension by name, with its configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def seconds(value_s: float) -> str:
    """A duration; Envoy reads at most nine decimals."""
    return f"{value_s:.3f}s"


def address_of(listen: str) -> Json:
    """The address of "host:port"; IPv6 hosts may stand in brackets."""
    host, _, port = listen.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def switched_off(*filters: str) -> Json:
    """For a route: these HTTP filters leave its requests alone."""
    off = typed("envoy.config.route.v3.FilterConfig", disabled=True)
    return {"typed_per_filter_config": dict.fromkeys(filters, off)}
