"""Check Envoy's configuration, for `make lint`: `python -m tools.check_edge`.

Renders it for each of the variations below, from the same settings as a real edge, with the routes
put inside (Envoy does not look into files of routes when it validates), and has Envoy itself
validate it. Exits with 1 if Envoy refuses one, or warns of something deprecated or unfinished.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devstack.certificates import DevCertificates, load_or_create
from devstack.edge import find_envoy
from edge.operators.listener import operator_listener
from edge.refusals import Refusal, RefusalPlan, route_configuration
from edge.render import CONFIGURATION_FILE, render
from edge.settings import EdgeSettings
from edge.web import list_files
from seckill.runtime.dev_issuer import load_or_create as load_or_create_issuer
from seckill.runtime.jwks import read_jwks
from seckill.v1 import inventory_pb2

VALIDATION_TIMEOUT_S = 60
CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
# Envoy's warnings about fields that are deprecated or unfinished.
WARNING = re.compile(r"deprecated|work-in-progress", re.IGNORECASE)
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
REFUSALS = RefusalPlan(
    sales=(
        Refusal("phone", SOLD_OUT, (".*(?:ImFsaWNlI|JhbGljZSI).*",)),
        Refusal("watch", SOLD_OUT),
    )
)


def variations(
    certificates: DevCertificates, web: Path, keys: Path
) -> Mapping[str, tuple[dict[str, Any], RefusalPlan]]:
    """Return settings, and what the routes are made of, by name."""
    tls = {
        "edge_tls_certificate": str(certificates.server),
        "edge_tls_key": str(certificates.server_key),
        "edge_client_ca": str(certificates.authority),
    }
    operators = {
        "profile": "development",
        "edge_operator_listen": "127.0.0.1:8081",
        "edge_operator_web_directory": str(web),
        "edge_operator_metrics": "gateway=127.0.0.1:9101",
        "order_operator_jwks": str(keys),
        "order_operator_jwt_issuer": "https://issuer.example",
    }
    page = {"edge_web_directory": str(web), "edge_cors_origins": "*", "edge_access_log": "all"}
    return {
        "plaintext": ({}, RefusalPlan()),
        "TLS or plaintext": ({**tls, "edge_tls": "optional"}, RefusalPlan()),
        "TLS": ({**tls, "edge_tls": "required"}, RefusalPlan()),
        "client certificates": (
            {**tls, "edge_tls": "required", "edge_client_certificates": "required"},
            RefusalPlan(),
        ),
        "a page": (page, RefusalPlan(files=list_files(str(web), profile="production"))),
        "no limits, no log": ({"edge_rate_ip": 0, "edge_access_log": "off"}, RefusalPlan()),
        "limits of all kinds": ({"edge_rate_all": 30_000, "edge_rate_ip": 7}, RefusalPlan()),
        "refusals": (page, REFUSALS),
        "kill switch": ({}, RefusalPlan(halted=True)),
        "operators": ({**page, **operators}, RefusalPlan()),
        "JSON transcoded": ({**page, "edge_json": "transcoded"}, REFUSALS),
    }


def with_routes(configuration: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with its routes inside, not in a file."""
    inside = {name: value for name, value in routes.items() if name != "@type"}
    for listener in configuration["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            for network_filter in chain["filters"]:
                manager = network_filter["typed_config"]
                if network_filter["name"] == CONNECTION_MANAGER and manager.pop("rds", None):
                    manager["route_config"] = inside
    return configuration


def with_operators(configuration: dict[str, Any], settings: EdgeSettings) -> dict[str, Any]:
    """Return the configuration with the operators' listener inside, if there is one."""
    if configuration.pop("dynamic_resources", None):
        files = list_files(settings.edge_operator_web_directory, profile=settings.profile)
        keys = read_jwks(settings.order_operator_jwks)
        listener = operator_listener(settings, keys, files)
        configuration["static_resources"]["listeners"].append(listener)
    return configuration


def find_fault(envoy: Path, path: Path) -> str:
    """Return Envoy's complaints about a configuration; empty if it has none."""
    command = [str(envoy), "--mode", "validate", "-c", str(path), "--disable-hot-restart"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=VALIDATION_TIMEOUT_S
    )
    lines = done.stderr.splitlines()
    if done.returncode != 0:
        return "\n".join(lines[-3:])
    return "\n".join(line for line in lines if WARNING.search(line))


def main() -> int:
    """Check all variations; return the exit status."""
    envoy = find_envoy()
    if envoy is None:
        sys.stdout.write("edge: no Envoy for this machine, nothing is validated\n")
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        web = folder / "web"
        web.mkdir()
        (web / "index.html").write_text("<h1>Sale</h1>")
        keys = load_or_create_issuer(folder / "keys").jwks_path
        every = variations(load_or_create(folder / "tls"), web, keys)
        for title, (given, plan) in every.items():
            settings = EdgeSettings(edge_directory=folder, **given)
            render(settings)
            path = folder / CONFIGURATION_FILE
            routes = route_configuration(settings, plan, "lease.example.1")
            configuration = with_routes(json.loads(path.read_text()), routes)
            path.write_text(json.dumps(with_operators(configuration, settings)))
            found = find_fault(envoy, path)
            if found:
                wrong += 1
                sys.stderr.write(f"edge: {title}: {found}\n")
    sys.stdout.write(f"edge: Envoy accepts {len(every) - wrong} of {len(every)} variations\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
