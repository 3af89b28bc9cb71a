"""Settings: environment variables with the prefix SECKILL_, read once, frozen, typed.

A bad value ends the process at start with the variable's name and value. Secrets have no default
and are never printed.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from seckill.failpoints import parse

PREFIX = "SECKILL_"
EXIT_BAD_SETTING = 2
# On every mixin: where classes are combined, the last base's configuration wins.
CONFIG = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

Listen = Annotated[str, Field(pattern=r"^.+:\d{1,5}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0)]


class ProcessSettings(BaseSettings):
    """What each stage's process needs."""

    model_config = CONFIG

    profile: Literal["development", "production"] = "production"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # auto: for people where standard error is a terminal, else JSON.
    log_format: Literal["auto", "console", "json"] = "auto"
    # Server reflection, for grpcurl and the like.
    reflection: bool = True
    # How long calls under way may take after SIGTERM.
    drain_timeout_s: Seconds = 10.0
    # Connections are closed after this age, so that load spreads over new replicas.
    connection_age_max_s: Seconds = 600.0
    # Faults for tests, "name:nth:action,…" (failpoints.py); refused in production.
    failpoints: str = ""

    @field_validator("failpoints")
    @classmethod
    def _failpoints_parse(cls, value: str, info: ValidationInfo) -> str:
        if parse(value) and info.data.get("profile") == "production":
            raise ValueError("is for tests; the production profile refuses it")
        return value


class RedisSettings(BaseSettings):
    """Where the stage's Redis is."""

    model_config = CONFIG

    redis_url: SecretStr
    # A command that takes longer has failed; its effect is unknown.
    redis_timeout_s: Seconds = 1.0
    redis_connections_max: Count = 16


class KafkaSettings(BaseSettings):
    """Where Kafka is, and what its topics are called."""

    model_config = CONFIG

    kafka_bootstrap: Annotated[str, Field(pattern=r"^[^,\s]+:\d+(,[^,\s]+:\d+)*$")]
    orders_topic: str = "seckill.orders.v1"
    dead_letter_topic: str = "seckill.orders.v1.dlq"


class PostgresSettings(BaseSettings):
    """Where the database is."""

    model_config = CONFIG

    postgres_dsn: SecretStr
    postgres_timeout_s: Seconds = 5.0
    postgres_connections_max: Count = 8


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def _explain(error: ValidationError, settings_type: type[BaseSettings]) -> str:
    lines = []
    for problem in error.errors():
        field = str(problem["loc"][0]) if problem["loc"] else ""
        variable = f"{PREFIX}{field.upper()}"
        if problem["type"] == "missing":
            lines.append(f"{variable} is not set")
            continue
        known = settings_type.model_fields.get(field)
        secret = known is not None and known.annotation is SecretStr
        value = "(secret)" if secret else repr(problem["input"])
        lines.append(f"{variable}={value}: {problem['msg']}")
    return "\n".join(lines)


def load(settings_type: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment; prints what is wrong and exits with 2."""
    try:
        return settings_type()
    except ValidationError as error:
        sys.stderr.write(_explain(error, settings_type) + "\n")
        sys.exit(EXIT_BAD_SETTING)


def read_file(path: str) -> str:
    """Contents of a file that a setting names; raises ValueError with the path and the reason."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
