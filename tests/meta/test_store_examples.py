"""The stores' objects in deploy/k8s/examples have what the mesh needs of its stores."""

from pathlib import Path
from typing import Any

import yaml

from devstack.kafka_users import KafkaRight, read_kafka_rights
from devstack.mesh import TOPIC_SETTINGS, TOPICS
from inventory_svc.durability import IN_SYNC_REPLICAS_MIN
from order_svc.db.durability import UNSAFE
from order_svc.settings import OrderSettings
from seckill.runtime.topic_claims import claim_group

EXAMPLES = Path(__file__).parents[2] / "deploy" / "k8s" / "examples"
REPLICAS = 3


def objects(file: str, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in a file."""
    documents = yaml.safe_load_all((EXAMPLES / file).read_text())
    found = [document for document in documents if document["kind"] == kind]
    assert found, f"{file} has no {kind}"
    return found


def test_the_topics_are_those_of_the_mesh() -> None:
    """Names, partitions, retention, and as many replicas as an acknowledgement needs."""
    topics = {one["metadata"]["name"]: one["spec"] for one in objects("kafka.yaml", "KafkaTopic")}
    assert {name: spec["partitions"] for name, spec in topics.items()} == TOPICS
    for name, spec in topics.items():
        assert spec["replicas"] == REPLICAS
        assert spec["config"]["min.insync.replicas"] == IN_SYNC_REPLICAS_MIN
        assert str(spec["config"]["retention.ms"]) == TOPIC_SETTINGS[name]["retention.ms"]


def test_the_brokers_keep_what_they_acknowledge_and_know_their_callers() -> None:
    """Enough brokers, no unclean election, TLS and a user on each listener, volumes that stay."""
    (kafka,) = objects("kafka.yaml", "Kafka")
    config = kafka["spec"]["kafka"]["config"]
    assert config["min.insync.replicas"] == IN_SYNC_REPLICAS_MIN
    assert config["default.replication.factor"] == REPLICAS
    assert config["unclean.leader.election.enable"] is False
    assert config["auto.create.topics.enable"] is False
    for listener in kafka["spec"]["kafka"]["listeners"]:
        assert listener["tls"] is True
        assert listener["authentication"]["type"] in ("scram-sha-512", "tls")
    pools = [pool["spec"] for pool in objects("kafka.yaml", "KafkaNodePool")]
    assert sum(pool["replicas"] for pool in pools if "broker" in pool["roles"]) >= REPLICAS
    assert all(
        volume["type"] == "persistent-claim"
        for pool in pools
        for volume in pool["storage"]["volumes"]
    )


def test_everything_of_one_kafka_names_it() -> None:
    """Topics, users and brokers with another label would be left alone."""
    (kafka,) = objects("kafka.yaml", "Kafka")
    for kind in ("KafkaTopic", "KafkaUser", "KafkaNodePool"):
        for one in objects("kafka.yaml", kind):
            assert one["metadata"]["labels"]["strimzi.io/cluster"] == kafka["metadata"]["name"]


def test_the_users_of_kafka_have_rights_to_what_the_settings_name() -> None:
    """By the defaults; tests/stores/test_rights.py tries whether they are enough."""
    found = {
        (user["metadata"]["name"], acl["resource"]["type"], acl["resource"]["name"])
        for user in objects("kafka.yaml", "KafkaUser")
        for acl in user["spec"]["authorization"]["acls"]
    }
    topics = {name for _, kind, name in found if kind == "topic"}
    assert topics == set(TOPICS)
    group = OrderSettings.model_fields["order_consumer_group"].default
    assert ("seckill-order", "group", group) in found
    claims = ("seckill-order", "group", "seckill.")
    assert claims in found
    assert all(claim_group(name).startswith(claims[2]) for name in TOPICS)


def test_the_users_of_kafka_have_the_rights_that_the_local_stack_gives() -> None:
    """One table, which Strimzi is told in its own words."""
    patterns = {"literal": "literal", "prefix": "prefixed"}
    found = {
        KafkaRight(
            user["metadata"]["name"],
            acl["resource"]["type"],
            patterns[acl["resource"]["patternType"]],
            acl["resource"]["name"],
            tuple(acl["operations"]),
        )
        for user in objects("kafka.yaml", "KafkaUser")
        for acl in user["spec"]["authorization"]["acls"]
    }
    assert found == set(read_kafka_rights())


def test_the_database_loses_no_commit_by_a_failover() -> None:
    """Synchronous, durable, by a quorum, in TLS; the pooler is in the mode that is supported."""
    (cluster,) = objects("postgres.yaml", "Cluster")
    spec = cluster["spec"]
    assert spec["instances"] >= REPLICAS
    synchronous = spec["postgresql"]["synchronous"]
    assert synchronous["number"] >= 1
    assert synchronous["dataDurability"] == "required"
    assert synchronous["failoverQuorum"] is True
    assert not UNSAFE.keys() & spec["postgresql"]["parameters"].keys()
    assert all(line.startswith(("hostssl", "hostnossl")) for line in spec["postgresql"]["pg_hba"])
    (pooler,) = objects("postgres.yaml", "Pooler")
    assert pooler["spec"]["cluster"]["name"] == cluster["metadata"]["name"]
    assert pooler["spec"]["pgbouncer"]["poolMode"] == "transaction"


def test_valkey_forgets_nothing() -> None:
    """A file on a volume, no eviction, memory left beside the data, one address, TLS."""
    (valkey,) = objects("valkey.yaml", "Valkey")
    spec = valkey["spec"]
    assert spec["persistence"]["enabled"] is True
    assert spec["tls"]["enabled"] is True
    assert spec["sentinel"]["enabled"] is False
    flags = dict(flag.removeprefix("--").split(maxsplit=1) for flag in spec["extraFlags"])
    assert flags["maxmemory-policy"] == "noeviction"
    assert (flags["maxmemory"], spec["resources"]["limits"]["memory"]) == ("1gb", "2Gi")
    assert spec["binding"]["template"].startswith("url: rediss://")
