"""The access list of Redis, with one password for all of a test's users."""

from pathlib import Path

from devstack.redis_users import REDIS_USERS

# Who uses Kafka.
KAFKA_STAGES = ("inventory", "order")


def write_redis_users(path: Path, password: str) -> None:
    """Write the access list."""
    path.write_text(REDIS_USERS.read_text().replace("CHANGE-ME", password))
