"""What the environment says about the local stack."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devstack.errors import StackError

DEFAULT_DIRECTORY = Path(".seckill")
# 1: services prove to each other who they are (`make up SECURE=1`).
SECURE = "SECKILL_LOCAL_SECURE"
# 1: Redis is a cluster of three masters and three replicas (`make up CLUSTER=1`).
CLUSTER = "SECKILL_LOCAL_CLUSTER"
_PORT_MAX = 65_535


@dataclass(frozen=True)
class Stores:
    """Where the three stores answer.

    Attributes:
        postgres_dsn: postgresql:// address with credentials.
        redis_url: redis:// address; of a cluster it names several nodes.
        kafka_bootstrap: host:port, several separated by commas.
        redis_cluster: whether Redis is a cluster.
    """

    postgres_dsn: str
    redis_url: str
    kafka_bootstrap: str
    redis_cluster: bool = False


@dataclass(frozen=True, kw_only=True)
class WantedPort:
    """A port that a process of the stack will listen on.

    Attributes:
        variable: the environment variable that chooses it; 0 there picks a free one.
        default: the port if the variable is not set; 0 picks a free one.
        wanted_by: which process, for messages.
    """

    variable: str
    default: int = 0
    wanted_by: str


_POSTGRES_PORT = WantedPort(variable="SECKILL_LOCAL_POSTGRES_PORT", wanted_by="postgres")
_REDIS_PORT = WantedPort(variable="SECKILL_LOCAL_REDIS_PORT", wanted_by="valkey")
_KAFKA_PORT = WantedPort(variable="SECKILL_LOCAL_KAFKA_PORT", wanted_by="kafka")


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Where the stack lives, on which ports, and which stores are replaced by given ones.

    Attributes:
        directory: data, logs and state.
        postgres_port, redis_port, kafka_port: 0 picks a free port.
        postgres_dsn, redis_url, kafka_bootstrap: an address replaces the store; empty starts one.
        secure: each store has a user for each service that uses it.
        cluster: Redis is a cluster, also one that is given.
    """

    directory: Path = DEFAULT_DIRECTORY
    postgres_port: int = 0
    redis_port: int = 0
    kafka_port: int = 0
    postgres_dsn: str = ""
    redis_url: str = ""
    kafka_bootstrap: str = ""
    secure: bool = False
    cluster: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read SECKILL_LOCAL_DIR, SECKILL_LOCAL_*_PORT, and the three stores' addresses.

        Args:
            env: the environment.

        Returns:
            The settings.

        Raises:
            StackError: a port is not a number from 0 to 65535; names variable and value.
        """
        ports, problems = read_ports(env, (_POSTGRES_PORT, _REDIS_PORT, _KAFKA_PORT))
        if problems:
            raise StackError(*problems)
        return cls(
            directory=read_directory(env),
            postgres_port=ports[_POSTGRES_PORT.variable],
            redis_port=ports[_REDIS_PORT.variable],
            kafka_port=ports[_KAFKA_PORT.variable],
            postgres_dsn=env.get("SECKILL_POSTGRES_DSN", ""),
            redis_url=env.get("SECKILL_REDIS_URL", ""),
            kafka_bootstrap=env.get("SECKILL_KAFKA_BOOTSTRAP", ""),
            secure=read_secure(env),
            cluster=read_cluster(env),
        )


def read_directory(env: Mapping[str, str] = os.environ) -> Path:
    """Return the stack's directory: SECKILL_LOCAL_DIR, or `.seckill` in the working directory."""
    return Path(env.get("SECKILL_LOCAL_DIR") or DEFAULT_DIRECTORY).expanduser()


def read_secure(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether the stack is to be secure.

    Raises:
        StackError: SECKILL_LOCAL_SECURE is neither 0 nor 1.
    """
    return _read_switch(env, SECURE)


def read_cluster(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether Redis is to be a cluster.

    Raises:
        StackError: SECKILL_LOCAL_CLUSTER is neither 0 nor 1, or the stack is to be secure, too.
    """
    if not _read_switch(env, CLUSTER):
        return False
    if read_secure(env):
        raise StackError(f"{CLUSTER}=1 and {SECURE}=1: the local cluster has no users; choose one")
    return True


def _read_switch(env: Mapping[str, str], variable: str) -> bool:
    wanted = env.get(variable, "") or "0"
    if wanted not in {"0", "1"}:
        raise StackError(f"{variable}={wanted}: must be 0 or 1")
    return wanted == "1"


def store_ports(env: Mapping[str, str]) -> tuple[WantedPort, ...]:
    """Return the ports of the stores that will be started, not those of stores given from outside.

    A store without a port of its own is left out: it picks one when it starts.
    """
    given = (
        ("SECKILL_POSTGRES_DSN", _POSTGRES_PORT),
        ("SECKILL_REDIS_URL", _REDIS_PORT),
        ("SECKILL_KAFKA_BOOTSTRAP", _KAFKA_PORT),
    )
    return tuple(port for address, port in given if not env.get(address) and env.get(port.variable))


def read_ports(
    env: Mapping[str, str], wanted: Iterable[WantedPort]
) -> tuple[dict[str, int], list[str]]:
    """Read ports from the environment.

    Returns:
        The ports by variable (0 picks a free one), and a line for each value that is no port,
        with the variable and the value.
    """
    ports: dict[str, int] = {}
    problems: list[str] = []
    for port in wanted:
        value = env.get(port.variable) or str(port.default)
        # ASCII: isdecimal() also takes the digits of other scripts.
        if value.isascii() and value.isdecimal() and int(value) <= _PORT_MAX:
            ports[port.variable] = int(value)
        else:
            problems.append(
                f"{port.variable}={value} is not a port: give a number from 0 to {_PORT_MAX}"
            )
    return ports, problems
