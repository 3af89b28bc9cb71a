"""`/config.json` of the console: what it must know of the place where it runs."""

import json

from edge.settings import EdgeSettings
from edge.typed import Json, overwritten
from edge.web import CONSOLE, DEVELOPMENT, POLICY, WebFile

PATH = "/config.json"
KEYS = f"{DEVELOPMENT}/keys.json"
# What of the pages is the console; the storefront is for the public port.
SERVED = (CONSOLE, "assets/", KEYS)


def served(files: tuple[WebFile, ...]) -> tuple[WebFile, ...]:
    """Return the files that operators get."""
    return tuple(file for file in files if file.path.startswith(SERVED))


def policy(settings: EdgeSettings) -> str:
    """Return the Content-Security-Policy: rehearsals call the edge that buyers call."""
    if not settings.edge_operator_public_origin:
        return POLICY
    return f"{POLICY}; connect-src 'self' {settings.edge_operator_public_origin}"


def config_route(settings: EdgeSettings, files: tuple[WebFile, ...]) -> Json:
    """Return the route that answers with the configuration."""
    config = {
        "signIn": settings.edge_operator_sign_in,
        "charts": settings.edge_operator_charts,
        "metrics": list(settings.metrics_sources),
        "publicOrigin": settings.edge_operator_public_origin,
        "developmentIssuer": any(file.path == KEYS for file in files),
    }
    return {
        "match": {"path": PATH},
        "direct_response": {"status": 200, "body": {"inline_string": json.dumps(config)}},
        "response_headers_to_add": [
            overwritten("content-type", "application/json"),
            overwritten("cache-control", "no-store"),
        ],
    }
