"""What the environment says about the local stack."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local.errors import StackError

DEFAULT_DIRECTORY = Path(".seckill")
_PORT_MAX = 65_535


@dataclass(frozen=True)
class Stores:
    """Where the three stores answer.

    Attributes:
        postgres_dsn: postgresql:// address with credentials.
        redis_url: redis:// address.
        kafka_bootstrap: host:port, several separated by commas.
    """

    postgres_dsn: str
    redis_url: str
    kafka_bootstrap: str


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Where the stack lives, on which ports, and which stores are replaced by given ones.

    Attributes:
        directory: data, logs and state.
        postgres_port, redis_port, kafka_port: 0 picks a free port.
        postgres_dsn, redis_url, kafka_bootstrap: an address replaces the store; empty starts one.
    """

    directory: Path = DEFAULT_DIRECTORY
    postgres_port: int = 0
    redis_port: int = 0
    kafka_port: int = 0
    postgres_dsn: str = ""
    redis_url: str = ""
    kafka_bootstrap: str = ""

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
        return cls(
            directory=Path(env.get("SECKILL_LOCAL_DIR") or DEFAULT_DIRECTORY).expanduser(),
            postgres_port=read_port(env, "SECKILL_LOCAL_POSTGRES_PORT"),
            redis_port=read_port(env, "SECKILL_LOCAL_REDIS_PORT"),
            kafka_port=read_port(env, "SECKILL_LOCAL_KAFKA_PORT"),
            postgres_dsn=env.get("SECKILL_POSTGRES_DSN", ""),
            redis_url=env.get("SECKILL_REDIS_URL", ""),
            kafka_bootstrap=env.get("SECKILL_KAFKA_BOOTSTRAP", ""),
        )


def read_port(env: Mapping[str, str], variable: str, *, default: int = 0) -> int:
    """Read a port from the environment.

    Args:
        env: the environment.
        variable: its name there.
        default: what an unset or empty variable means.

    Returns:
        0 to 65535; 0 picks a free one.

    Raises:
        StackError: the value is no port; names the variable and the value.
    """
    value = env.get(variable) or str(default)
    if not value.isdecimal() or int(value) > _PORT_MAX:
        raise StackError(f"{variable}={value} is not a port: give a number from 0 to {_PORT_MAX}")
    return int(value)
