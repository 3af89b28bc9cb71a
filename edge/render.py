"""`python -m edge.render`: write Envoy's configuration, from the settings alone.

Into SECKILL_EDGE_DIRECTORY: envoy.json, the file to start Envoy with; routes/routes.json, which the
agent replaces; with TLS, files that name the certificates; for operators listeners/listeners.json,
without a listener until the agent knows their keys. None of them contains a secret, but for the
symmetric keys of the development profile.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from edge.bootstrap import bootstrap, listeners_path
from edge.listener import ROUTES_FILE
from edge.refusals import RefusalPlan, route_configuration
from edge.settings import EdgeSettings
from edge.tls import secrets
from edge.typed import Json
from edge.web import list_files, of_the_public
from seckill.runtime.settings import load

CONFIGURATION_FILE = "envoy.json"
# Granted by no agent.
NO_LEASE = "lease.none"


def routes_path(settings: EdgeSettings) -> Path:
    """Return the path of the routes file."""
    return settings.edge_directory / "routes" / ROUTES_FILE


def write_atomically(settings: EdgeSettings, path: Path, content: Json) -> None:
    """Replace a JSON file: a reader sees the old one or the new one, never a part."""
    # Outside the folder that Envoy watches, which so sees the finished file only.
    unfinished = settings.edge_directory / f".{path.name}.{os.getpid()}"
    unfinished.write_text(json.dumps(content, separators=(",", ":")))
    unfinished.rename(path)


def write_routes(settings: EdgeSettings, plan: RefusalPlan, lease: str) -> None:
    """Replace the routes. Raises OSError if they cannot be written."""
    routes = route_configuration(settings, plan, lease)
    write_atomically(settings, routes_path(settings), {"resources": [routes]})


def write_listeners(settings: EdgeSettings, listeners: Sequence[Json]) -> None:
    """Replace the operators' listener. Raises OSError if it cannot be written."""
    path = listeners_path(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kind = "type.googleapis.com/envoy.config.listener.v3.Listener"
    resources = [{"@type": kind, **listener} for listener in listeners]
    write_atomically(settings, path, {"resources": resources})


def render(settings: EdgeSettings) -> Path:
    """Write all files; return the path of the one to start Envoy with. Raises OSError."""
    folder = settings.edge_directory
    routes_path(settings).parent.mkdir(parents=True, exist_ok=True)
    files = list_files(settings.edge_web_directory, profile=settings.profile)
    write_routes(settings, RefusalPlan(files=of_the_public(files)), NO_LEASE)
    if settings.edge_operator_listen:
        write_listeners(settings, ())
    for name, content in secrets(settings).items():
        write_atomically(settings, folder / name, content)
    write_atomically(settings, folder / CONFIGURATION_FILE, bootstrap(settings))
    return folder / CONFIGURATION_FILE


if __name__ == "__main__":
    render(load(EdgeSettings))
