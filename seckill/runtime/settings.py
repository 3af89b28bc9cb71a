"""Settings: environment variables with the prefix SECKILL_, read once, frozen, typed.

A bad value ends the process at start with the variable's name and value. Secrets have no default
and are never printed.

The comment above a field is its meaning in docs/reference/settings.md.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from seckill.runtime.addresses import check_listen, check_target
from seckill.runtime.failpoints import parse
from seckill.runtime.mesh_settings import MeshTlsSettings
from seckill.runtime.trace_settings import TraceSettings

PREFIX = "SECKILL_"
EXIT_BAD_SETTING = 2
# On every mixin: if classes are combined, the last base's configuration wins.
CONFIG = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

Listen = Annotated[
    str,
    AfterValidator(check_listen),
    Field(description="Address to listen on, host:port; port 0 takes a free one."),
]
Target = Annotated[
    str,
    AfterValidator(check_target),
    Field(description="Address of that service: dns:///host:port, balanced over its replicas."),
]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0)]


class ProcessSettings(TraceSettings, MeshTlsSettings):
    """What the process of each service needs."""

    model_config = CONFIG

    # production refuses what is meant for development: symmetric identity keys, webhooks without
    # TLS, failpoints, unknown variables.
    profile: Literal["development", "production"] = "production"
    # Lines of a lower level are not written.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # console: for people; json: for machines; auto: console if standard output is a terminal.
    log_format: Literal["auto", "console", "json"] = "auto"
    # Server reflection, for grpcurl and the like; the production profile has none.
    reflection: bool = True
    # How long calls in flight may take after SIGTERM.
    drain_timeout_s: Seconds = 10.0
    # At this age, give or take a tenth, a connection takes no new calls: callers connect again and
    # so find new replicas.
    connection_age_max_s: Seconds = 30.0
    # How long the calls of such a connection may go on; longer than anyone watches an order.
    connection_grace_s: Seconds = 960.0
    # Faults to inject in tests, "name:nth:action,…" (failpoints.py); refused in production.
    failpoints: str = ""

    @field_validator("failpoints")
    @classmethod
    def _failpoints_parse(cls, value: str, info: ValidationInfo) -> str:
        if parse(value) and info.data.get("profile") == "production":
            raise ValueError("is for tests; the production profile refuses it")
        return value


class ArrivalSettings(BaseSettings):
    """How long a reservation may take to become an order."""

    model_config = CONFIG

    # Grace period before an order number that the database does not know is final: until then polls
    # are told to ask again, and payments to come again. Longer than a lost reservation takes to be
    # found and sent again: rollback_svc refuses settings that do not fit. One for all services.
    order_arrival_max_s: Seconds = 120.0


class SaleMetricsSettings(BaseSettings):
    """Which sales have metrics of their own."""

    model_config = CONFIG

    # Sales that metrics show one by one, by their sku: those that sell, or that ended within the
    # last hour, the latest start first. 0 shows none. One for all services.
    sale_metrics_max: Annotated[int, Field(ge=0, le=1_000)] = 20


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def _explain(error: ValidationError, settings_type: type[BaseSettings]) -> str:
    lines = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            # About several variables, which the message names; its input is all of them, with the
            # secrets.
            lines.append(message)
            continue
        field = str(problem["loc"][0])
        variable = f"{PREFIX}{field.upper()}"
        if problem["type"] == "missing":
            lines.append(f"{variable} is not set")
            continue
        known = settings_type.model_fields.get(field)
        secret = known is not None and known.annotation is SecretStr
        value = "(secret)" if secret else repr(problem["input"])
        lines.append(f"{variable}={value}: {message}")
    return "\n".join(lines)


def load(settings_type: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment; print what is wrong and exit with 2."""
    try:
        return settings_type()
    except ValidationError as error:
        refuse(_explain(error, settings_type))


def refuse(reason: str) -> NoReturn:
    """End the process because of its settings."""
    sys.stderr.write(reason + "\n")
    sys.exit(EXIT_BAD_SETTING)


def read_file(path: str) -> str:
    """Return the contents of a file that a setting names; raise ValueError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
