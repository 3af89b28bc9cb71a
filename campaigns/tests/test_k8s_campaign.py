"""The campaign on a cluster fits the chart, as far as that shows without a cluster."""

import re
from typing import Any

import yaml

from campaigns.images import OFFICIAL, STAND_INS, Images
from campaigns.k8s import crowd
from campaigns.k8s.cluster import CHART
from campaigns.k8s.production import COMPONENTS
from campaigns.k8s.sale import UNITS
from campaigns.k8s.secure import METRICS_PORTS
from campaigns.k8s.trial import COMMAND
from campaigns.k8s.users import REDIS_VALUES
from devstack import mesh
from devstack.redis_users import REDIS_USERS

STORES = (CHART / "trial" / "stores.yaml").read_text(encoding="utf-8")
IMAGES = Images(prefix="registry.example/shop", tag="7")


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    return [document for document in yaml.safe_load_all(text) if document]


def test_every_image_has_a_stand_in() -> None:
    """Those of the trial's stores, and Envoy's of the chart; each has a stage of its own."""
    replaced = IMAGES.replace_official(STORES)
    images = re.findall(r"image: (\S+)", replaced)
    assert images
    assert all(image.startswith("registry.example/shop/") for image in images)
    envoy = yaml.safe_load((CHART / "values.yaml").read_text())["edge"]["image"]
    assert f"{envoy['repository']}:{envoy['tag']}" in OFFICIAL
    stages = re.findall(
        r"^FROM \S+ AS (\S+)$", (STAND_INS / "Dockerfile").read_text(), re.MULTILINE
    )
    assert set(stages) == set(OFFICIAL.values())


def test_stores_of_a_trial_are_those_of_the_local_stack() -> None:
    """The same topics, partitions and retention; nothing is evicted, everything is in the log."""
    by_name = {
        document["metadata"]["name"]: document
        for document in documents(STORES)
        if document["kind"] in {"Deployment", "Job"}
    }

    def container(name: str) -> dict[str, Any]:
        found: dict[str, Any] = by_name[name]["spec"]["template"]["spec"]["containers"][0]
        return found

    script = container("topics")["args"][0]
    created = re.findall(r"^\s*create (seckill\S+) (\d+) (\S+)$", script, re.MULTILINE)
    assert {name: int(partitions) for name, partitions, _ in created} == mesh.TOPICS
    kept = {name: {"retention.ms": retention_ms} for name, _, retention_ms in created}
    assert kept == mesh.TOPIC_SETTINGS
    valkey = container("redis")["args"]
    options = dict(zip(valkey[1::2], valkey[2::2], strict=True))
    assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")


def test_the_command_of_the_notes_is_found() -> None:
    """As Helm prints it, over several lines."""
    notes = (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    command = COMMAND.search(notes)
    assert command is not None
    assert command[1].startswith("kubectl exec")
    assert "dev_issuer" in command[1]


def test_each_service_of_a_secure_release_has_a_user_that_the_chart_can_name() -> None:
    """In the access list, and among the values; each component's metrics are looked at."""
    users = {line.split()[1] for line in REDIS_USERS.read_text(encoding="utf-8").splitlines()}
    assert users - {"default"} == {f"seckill-{service}" for service in REDIS_VALUES}
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for path in (*REDIS_VALUES.values(), "migration.postgres.existingSecret.name"):
        found: Any = values
        for part in path.split("."):
            found = found[part]
        assert found == ""
    own = {service.name: (service.metrics_port,) for service in mesh.SERVICES}
    assert own.items() <= METRICS_PORTS.items()
    assert set(METRICS_PORTS) == set(COMPONENTS)


def test_the_crowd_is_given_the_units_of_its_sales() -> None:
    """Each of them is named on both sides."""
    assert tuple(UNITS) == crowd.SALES
    assert {"gateway", "inventory", "order", "rollback", "edge"} == set(COMPONENTS)
