"""compose.yaml says nothing that the stages do not understand; it is read here, not run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from pydantic_settings import BaseSettings

from deploy.edge.settings import EdgeSettings
from deploy.local import mesh
from gateway.settings import GatewaySettings
from inventory_svc.settings import InventorySettings
from order_svc.settings import OrderSettings
from rollback_svc.settings import RollbackSettings
from seckill import dev_issuer
from seckill.dev_issuer import ISSUER, load_or_create
from seckill.settings import PREFIX, PostgresSettings

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
    "order_svc.migrate": PostgresSettings,
    "deploy.edge": EdgeSettings,
    "deploy.edge.render": EdgeSettings,
}
# name:tag with a whole version, and no host.
PINNED = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+:v?\d+\.\d+(\.\d+)?")
OURS = {name: service for name, service in SERVICES.items() if service["image"] == OWN_IMAGE}


@pytest.mark.parametrize("name", [name for name in OURS if name != "secrets"])
def test_each_stage_starts_with_its_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable is unknown, none is missing, no value is bad."""
    (module,) = SERVICES[name]["command"]
    known = {PREFIX + field.upper() for field in SETTINGS[module].model_fields}
    given = dict(SERVICES[name]["environment"])
    assert given.keys() <= known
    if "SECKILL_GATEWAY_JWKS" in given:
        given["SECKILL_GATEWAY_JWKS"] = str(load_or_create(tmp_path).jwks_path)
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


def test_each_image_is_pinned_and_ours_is_built_the_one_way() -> None:
    """A tag of a whole version, and no host: the registry is whatever Docker's own is."""
    for service in SERVICES.values():
        assert PINNED.fullmatch(service["image"])
    for service in OURS.values():
        assert (ROOT / service["build"]["dockerfile"]).exists()
        assert service["read_only"] is True


def test_who_is_waited_for_can_be_waited_for() -> None:
    """A healthy one has a check, a finished one runs once, and everybody is there."""
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if how["condition"] == "service_healthy":
                assert other["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
            else:
                assert how["condition"] == "service_completed_successfully"
                assert other.get("restart", "no") in {"no", "on-failure:3"}
    volumes = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
    }
    assert volumes == COMPOSE["volumes"].keys()


def test_stages_are_called_where_they_listen() -> None:
    """Each target and each check names a port that the stage's settings have by default."""
    ports = {stage.name: stage.port for stage in mesh.STAGES}
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
    """The same topics with as many partitions, nothing evicted, the issuer of `seckill token`."""
    created = re.findall(r"^create (\S+) (\d+)$", SERVICES["topics"]["command"][0], re.MULTILINE)
    assert {name: int(partitions) for name, partitions in created} == mesh.TOPICS
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    valkey = SERVICES["valkey"]["command"]
    options = dict(zip(valkey[1::2], valkey[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert SERVICES["gateway"]["environment"]["SECKILL_GATEWAY_JWT_ISSUER"] == ISSUER
