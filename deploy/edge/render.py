"""`python -m deploy.edge.render`: write Envoy's configuration, from the settings alone.

Into SECKILL_EDGE_DIRECTORY: envoy.json, the file to start Envoy with; routes/routes.json, which the
agent replaces; where the certificates are, if TLS is on. There is no secret in them.
"""

import json
import os
from pathlib import Path

from deploy.edge.bootstrap import bootstrap
from deploy.edge.listener import ROUTES_FILE
from deploy.edge.refusals import Wanted, route_configuration
from deploy.edge.settings import EdgeSettings
from deploy.edge.tls import secrets
from deploy.edge.typed import Json
from deploy.edge.web import list_files
from seckill.settings import load

CONFIGURATION_FILE = "envoy.json"
# Granted by no agent.
NO_LEASE = "lease.none"


def routes_path(settings: EdgeSettings) -> Path:
    """Where the routes are."""
    return settings.edge_directory / "routes" / ROUTES_FILE


def write_whole(settings: EdgeSettings, path: Path, content: Json) -> None:
    """Put a JSON file in place at once: a reader sees the old one or the new one."""
    # Outside of the folder that Envoy watches, so that it is told of the finished file alone.
    unfinished = settings.edge_directory / f".{path.name}.{os.getpid()}"
    unfinished.write_text(json.dumps(content, separators=(",", ":")))
    unfinished.rename(path)


def write_routes(settings: EdgeSettings, wanted: Wanted, lease: str) -> None:
    """Replace the routes. Raises OSError where they cannot be written."""
    routes = route_configuration(settings, wanted, lease)
    write_whole(settings, routes_path(settings), {"resources": [routes]})


def render(settings: EdgeSettings) -> Path:
    """Write all files; returns the one to start Envoy with. Raises OSError."""
    folder = settings.edge_directory
    routes_path(settings).parent.mkdir(parents=True, exist_ok=True)
    write_routes(settings, Wanted(files=list_files(settings.edge_web_directory)), NO_LEASE)
    for name, content in secrets(settings).items():
        write_whole(settings, folder / name, content)
    write_whole(settings, folder / CONFIGURATION_FILE, bootstrap(settings))
    return folder / CONFIGURATION_FILE


if __name__ == "__main__":
    render(load(EdgeSettings))
