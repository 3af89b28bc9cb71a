"""The rights that each stage has in the stores, from the files that deployments apply."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from devstack.mesh import REPOSITORY_ROOT

REDIS_USERS = REPOSITORY_ROOT / "deploy" / "stores" / "users.acl"
POSTGRES_ROLES = REPOSITORY_ROOT / "deploy" / "stores" / "postgres-roles.sql"
KAFKA_USERS = REPOSITORY_ROOT / "deploy" / "k8s" / "examples" / "kafka.yaml"
KAFKA_STAGES = ("inventory", "order")
# Kafka's own numbers (kafka.common.acl, resource).
_RESOURCES = {"topic": 2, "group": 3}
_PATTERNS = {"literal": 3, "prefix": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
_ALLOW = 3


def write_redis_users(path: Path, password: str) -> None:
    """Write the access list with a password for all users."""
    path.write_text(REDIS_USERS.read_text().replace("CHANGE-ME", password))


def kafka_users() -> Iterator[dict[str, Any]]:
    """The KafkaUsers of the example."""
    for document in yaml.safe_load_all(KAFKA_USERS.read_text()):
        if document["kind"] == "KafkaUser":
            yield document


async def grant_kafka_rights(bootstrap: str) -> None:
    """Give the users their rights, as Strimzi does; the listener is an administrator's."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for user in kafka_users():
            for acl in user["spec"]["authorization"]["acls"]:
                for operation in acl["operations"]:
                    await _grant(admin, user["metadata"]["name"], acl["resource"], operation)
    finally:
        await admin.close()


async def _grant(
    admin: AIOKafkaAdminClient, user: str, resource: dict[str, str], operation: str
) -> None:
    request = CreateAclsRequest(
        _RESOURCES[resource["type"]],
        resource["name"],
        _PATTERNS[resource["patternType"]],
        f"User:{user}",
        "*",
        _OPERATIONS[operation],
        _ALLOW,
    )
    answer: Any = await admin._send_request(request)
    ((code, message),) = answer.creation_responses
    assert code == 0, message
