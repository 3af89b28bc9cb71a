"""compose.yaml says nothing that the services do not understand; it is read here, not run."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from pydantic_settings import BaseSettings

from devstack import mesh
from edge.development_keys import PROVIDER
from edge.settings import EdgeSettings
from gateway.settings import GatewaySettings
from inventory_svc.settings import InventorySettings
from order_svc.settings import OrderSettings
from rollback_svc.settings import RollbackSettings
from seckill.runtime import dev_issuer
from seckill.runtime.dev_issuer import ISSUER, load_or_create
from seckill.runtime.settings import PREFIX
from seckill.runtime.store_settings import PostgresSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]
OWN_IMAGE = COMPOSE["x-image"]["image"]
# What `python -m` runs in a container → what it reads.
SETTINGS: Mapping[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "inventory_svc": InventorySettings,
    "order_svc": OrderSettings,
    "rollback_svc": RollbackSettings,
    "order_svc.db.migrate": PostgresSettings,
    "edge": EdgeSettings,
    "edge.render": EdgeSettings,
}
# name:tag with a whole version, and no host.
PINNED = re.compile(r"([a-z0-9-]+/)?[a-z0-9_-]+:v?\d+\.\d+(\.\d+)?")
OURS = {name: service for name, service in SERVICES.items() if service["image"] == OWN_IMAGE}


# These two read no settings of a service.
TOOLS = {"secrets", "pages"}


@pytest.mark.parametrize("name", sorted(OURS.keys() - TOOLS))
def test_each_service_starts_with_its_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable is unknown, none is missing, no value is bad."""
    (module,) = SERVICES[name]["command"]
    known = {PREFIX + field.upper() for field in SETTINGS[module].model_fields}
    given = dict(SERVICES[name]["environment"])
    assert given.keys() <= known
    for variable in given.keys() & {"SECKILL_GATEWAY_JWKS", "SECKILL_ORDER_OPERATOR_JWKS"}:
        given[variable] = str(load_or_create(tmp_path).jwks_path)
    for variable in known:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        assert isinstance(value, str), variable
        monkeypatch.setenv(variable, value)
    SETTINGS[module]()


def test_the_issuers_container_prints_an_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys at the first start, nothing said; then a token that they verify."""
    dev_issuer.main(str(tmp_path))
    assert capsys.readouterr().out == ""
    dev_issuer.main(str(tmp_path), "alice")
    issuer = load_or_create(tmp_path)
    claims = jwt.decode(
        capsys.readouterr().out.strip(),
        issuer.key,
        algorithms=["HS256"],
        audience=issuer.audience,
        issuer=issuer.issuer,
    )
    assert claims["sub"] == "alice"


def test_pages_sign_in_and_pay_as_the_mesh_understands_it(tmp_path: Path) -> None:
    """With the issuer of gateway and order, the provider of order; where Envoy looks for them."""
    given = SERVICES["pages"]["environment"]
    known = SERVICES["gateway"]["environment"] | SERVICES["order"]["environment"]
    assert given.items() <= known.items()
    (module, folder, option) = SERVICES["pages"]["command"]
    edge = SERVICES["edge-agent"]["environment"]
    assert folder == edge["SECKILL_EDGE_WEB_DIRECTORY"]
    assert folder == edge["SECKILL_EDGE_OPERATOR_WEB_DIRECTORY"]
    jwks = {"SECKILL_GATEWAY_JWKS": str(load_or_create(tmp_path / "secrets").jwks_path)}
    done = subprocess.run(
        [sys.executable, "-m", module, str(tmp_path), option],
        env=given | jwks,
        cwd=ROOT,
        check=True,
    )
    assert done.returncode == 0
    keys = json.loads((tmp_path / "dev" / "keys.json").read_text())
    assert keys["provider"]["name"] == PROVIDER
    for port in SERVICES["edge"]["ports"]:
        assert port.startswith("127.0.0.1:")


def test_each_image_is_pinned_and_ours_is_built_the_one_way() -> None:
    """A tag of a whole version, and no host: the registry is whatever Docker's own is."""
    for service in SERVICES.values():
        assert PINNED.fullmatch(service["image"])
    for service in OURS.values():
        assert (ROOT / service["build"]["dockerfile"]).exists()
        assert service["read_only"] is True


def test_dependencies_can_be_awaited() -> None:
    """One that must be healthy has a check, one that must finish runs once, and all exist."""
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if how["condition"] == "service_healthy":
                assert other["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
            else:
                assert how["condition"] == "service_completed_successfully"
                assert other.get("restart", "no") in {"no", "on-failure:3"}
    assert {name for name in mounted() if not name.startswith("./")} == COMPOSE["volumes"].keys()


def mounted() -> set[str]:
    """Return what is mounted: names of volumes, and paths of this repository."""
    return {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
    }


def test_what_watches_is_mounted_and_scrapes_what_runs() -> None:
    """Files that exist; services by their names, at the ports where they export."""
    for name in mounted():
        assert not name.startswith("./") or (ROOT / name).exists(), name
    scraped = yaml.safe_load((ROOT / "deploy/observability/prometheus.yaml").read_text())
    targets = {
        target
        for job in scraped["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert {target.partition(":")[0] for target in targets} <= SERVICES.keys()
    ours = {f"{service.name}:{service.metrics_port}" for service in mesh.SERVICES}
    assert ours | {"edge-agent:9105", "edge:9106"} <= targets


def test_what_watches_is_started_only_if_wanted() -> None:
    """`docker compose up` alone starts the mesh and its stores."""
    watching = {name for name, service in SERVICES.items() if "profiles" in service}
    assert watching == {
        "prometheus",
        "grafana",
        "redis-exporter",
        "postgres-exporter",
        "kafka-exporter",
    }
    for service in SERVICES.values():
        assert not watching & service.get("depends_on", {}).keys()


def test_services_are_called_where_they_listen() -> None:
    """Each target and each check names a port that the service's settings have by default."""
    ports = {service.name: service.port for service in mesh.SERVICES}
    targets = [
        value.removeprefix("dns:///").split(":")
        for service in OURS.values()
        for variable, value in service.get("environment", {}).items()
        if variable.endswith("_TARGET")
    ]
    assert {(name, int(port)) for name, port in targets} <= set(ports.items())
    for name, port in ports.items():
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_stores_are_those_of_the_local_stack() -> None:
    """The same topics, partitions and retention, nothing evicted, the issuer of `seckill token`."""
    script = SERVICES["topics"]["command"][0]
    created = re.findall(r"^create (\S+) (\d+) (\S+)$", script, re.MULTILINE)
    assert {name: int(partitions) for name, partitions, _ in created} == mesh.TOPICS
    kept = {name: {"retention.ms": retention_ms} for name, _, retention_ms in created}
    assert kept == mesh.TOPIC_SETTINGS
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    valkey = SERVICES["valkey"]["command"]
    options = dict(zip(valkey[1::2], valkey[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert SERVICES["gateway"]["environment"]["SECKILL_GATEWAY_JWT_ISSUER"] == ISSUER
    assert SERVICES["order"]["environment"]["SECKILL_ORDER_OPERATOR_JWT_ISSUER"] == ISSUER
