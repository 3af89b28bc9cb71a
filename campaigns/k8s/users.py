"""A user for each service in Redis, roles in Postgres: the files of deploy/stores, applied."""

import secrets

from campaigns.commands import CommandFailed
from campaigns.k8s.cluster import Cluster
from devstack.postgres_roles import POSTGRES_ROLES
from devstack.redis_users import REDIS_USERS

# The crowd's, who counts.
ADMINISTRATOR = "campaign"
# Value of the chart → Secret with the address of a service's own user, as this module names it.
REDIS_VALUES = {
    "gateway": "gateway.sharedBuckets.existingSecret.name",
    "inventory": "inventory.redis.existingSecret.name",
    "order": "order.redis.existingSecret.name",
    "rollback": "rollback.redis.existingSecret.name",
}
OWNER_SECRET = "postgres-owner"


def create_users(cluster: Cluster) -> tuple[str, ...]:
    """Create them on the stores of a trial; return arguments of helm that name their Secrets."""
    values = {**_redis_users(cluster), **_postgres_roles(cluster)}
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={value}"))


def _redis_users(cluster: Cluster) -> dict[str, str]:
    values = {}
    rights = ["on", "~*", "&*", "+@all"]
    cluster.secret("seckill-redis", {"url": _set_user(cluster, ADMINISTRATOR, *rights)})
    for line in REDIS_USERS.read_text(encoding="utf-8").splitlines():
        _, user, *rules = line.split()
        if user == "default":
            continue
        url = _set_user(cluster, user, *(rule for rule in rules if rule != ">CHANGE-ME"))
        secret = f"redis-{user}"
        cluster.secret(secret, {"url": url})
        values[REDIS_VALUES[user.removeprefix("seckill-")]] = secret
    # Last: with it goes the right to change users without a password.
    _redis(cluster, "ACL", "SETUSER", "default", "off")
    return values


def _set_user(cluster: Cluster, user: str, *rules: str) -> str:
    """Make a user; return the address with which a service is that user."""
    password = secrets.token_urlsafe(24)
    _redis(cluster, "ACL", "SETUSER", user, f">{password}", *rules)
    return f"redis://{user}:{password}@redis:6379/0"


def _redis(cluster: Cluster, *words: str) -> None:
    answer = cluster.kubectl("exec", "deployment/redis", "--", "valkey-cli", *words).strip()
    if answer != "OK":
        raise CommandFailed(f"{' '.join(words[:3])}: {answer}")


def _postgres_roles(cluster: Cluster) -> dict[str, str]:
    passwords = {role: secrets.token_urlsafe(24) for role in ("owner", "order")}
    variables = [
        word
        for role, password in passwords.items()
        for word in ("-v", f"{role}_password={password}")
    ]
    cluster.kubectl(
        *("exec", "-i", "deployment/postgres", "--", "env", "PGPASSWORD=seckill", "psql", "-X"),
        *("-h", "127.0.0.1", "-U", "seckill", "-d", "seckill", "-v", "ON_ERROR_STOP=1"),
        *(*variables, "-f", "-"),
        stdin=POSTGRES_ROLES.read_text(encoding="utf-8"),
    )
    for role, secret in (("owner", OWNER_SECRET), ("order", "seckill-postgres")):
        dsn = f"postgresql://seckill_{role}:{passwords[role]}@postgres:5432/seckill"
        cluster.secret(secret, {"dsn": dsn})
    return {"migration.postgres.existingSecret.name": OWNER_SECRET}
