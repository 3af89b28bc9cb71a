"""Kafka with a user for each service that uses it, with the rights of deploy/stores."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from devstack.errors import StackError
from devstack.kafka import KafkaServer
from devstack.ports import LOOPBACK, pick_free_port
from devstack.redis_users import load_or_create_password, password_of
from devstack.topics import REQUEST_TIMEOUT_MS

KAFKA_RIGHTS = Path(__file__).parents[1] / "deploy" / "stores" / "kafka-rights.txt"
# Kafka's own numbers (org.apache.kafka.common.resource and acl).
_TYPES = {"topic": 2, "group": 3}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}
_ALLOW = 3
_LISTENER = "USERS"
# Below the broker's folder: where users connect, host:port.
_ADDRESS_FILE = "users-address"


@dataclass(frozen=True, slots=True)
class KafkaRight:
    """What a user may do.

    Attributes:
        type: `topic` or `group`.
        pattern: `literal`, or `prefixed`: the name is the beginning of names.
        operations: as Kafka calls them.
    """

    user: str
    type: str
    pattern: str
    name: str
    operations: tuple[str, ...]


def read_kafka_rights() -> Iterator[KafkaRight]:
    """Yield the lines of deploy/stores/kafka-rights.txt."""
    for line in KAFKA_RIGHTS.read_text().splitlines():
        if not line.startswith("#"):
            user, kind, pattern, name, operations = line.split()
            yield KafkaRight(user, kind, pattern, name, tuple(operations.split(",")))


async def grant_kafka_rights(bootstrap: str) -> None:
    """Give the users their rights, any number of times.

    Args:
        bootstrap: an administrator's listener, host:port.

    Raises:
        StackError: Kafka refuses one; names it.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        for right in read_kafka_rights():
            for operation in right.operations:
                await _grant(admin, right, operation)
    finally:
        await admin.close()


async def _grant(admin: AIOKafkaAdminClient, right: KafkaRight, operation: str) -> None:
    request = CreateAclsRequest(
        _TYPES[right.type],
        right.name,
        _PATTERNS[right.pattern],
        f"User:{right.user}",
        "*",
        _OPERATIONS[operation],
        _ALLOW,
    )
    # The client has no method for it.
    answer: Any = await admin._send_request(request)  # noqa: SLF001
    ((code, message),) = answer.creation_responses
    if code:
        raise StackError(f"Kafka does not give {right.user} {operation} on {right.name}: {message}")


class KafkaWithUsers(KafkaServer):
    """Kafka in which the listener in clear is the administrator's, and users have their own."""

    module: ClassVar[str] = "org.apache.kafka.common.security.plain.PlainLoginModule"

    def _further_listeners(self) -> str:
        address = f"{LOOPBACK}:{pick_free_port()}"
        (self.directory / _ADDRESS_FILE).write_text(address)
        return f",{_LISTENER}://{address}"

    def _further_properties(self) -> str:
        password = load_or_create_password(self.directory / "password")
        users = " ".join(
            f'user_{user}="{password_of(user, password)}"'
            for user in sorted({right.user for right in read_kafka_rights()})
        )
        prefix = f"listener.name.{_LISTENER.lower()}"
        kinds = f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{_LISTENER}:SASL_PLAINTEXT"
        lines = (
            f"listener.security.protocol.map={kinds}",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
            f"{prefix}.sasl.enabled.mechanisms=PLAIN",
            f"{prefix}.plain.sasl.jaas.config={self.module} required {users};",
        )
        return "\n".join([*lines, ""])


def kafka_settings_of(stage: str, directory: Path) -> dict[str, str]:
    """Return the settings with which a service is its own user.

    Args:
        directory: that of a broker that runs.
    """
    user = f"seckill-{stage}"
    if user not in {right.user for right in read_kafka_rights()}:
        return {}
    password = load_or_create_password(directory / "password")
    return {
        "SECKILL_KAFKA_BOOTSTRAP": (directory / _ADDRESS_FILE).read_text(),
        "SECKILL_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SECKILL_KAFKA_SASL_MECHANISM": "PLAIN",
        "SECKILL_KAFKA_SASL_USERNAME": user,
        "SECKILL_KAFKA_SASL_PASSWORD": password_of(user, password),
    }
