"""Settings: environment variables with the prefix SECKILL_, read once, frozen, typed.

A bad value ends the process at start with the variable's name and value. Secrets have no default
and are never printed.

The comment above a field is its meaning in docs/reference/settings.md.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio.connection import parse_url as parse_redis_url

from seckill.runtime.failpoints import parse

PREFIX = "SECKILL_"
EXIT_BAD_SETTING = 2
PORT_MAX = 65_535
# On every mixin: if classes are combined, the last base's configuration wins.
CONFIG = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")
SERVICES = ("gateway", "inventory", "order", "rollback", "edge")
# What a shared environment may hold besides the settings of the services: of the local stack, of
# tests, and of callers, who name a target, metrics, certificates and their own tokens.
_OTHERS = re.compile(
    rf"{PREFIX}(LOCAL_\w+|TEST_\w+|CACHE_DIR|OPERATOR_TOKEN|IDENTITY|METRICS|TLS(_\w+)?"
    rf"|({'|'.join(SERVICES).upper()})_TARGET)"
)
# gRPC's name of a server: DNS, with or without the scheme, and with or without a DNS server.
_TARGET = re.compile(r"(dns:(//[^/\s]*/)?)?([^\s/:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)")
# Kubernetes adds these for each Service of the namespace, e.g. one named seckill-gateway.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)")


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError(f"must be host:port with a port of 0 to {PORT_MAX}")
    return value


def _check_addresses(value: str) -> str:
    for address in value.split(","):
        host, _, port = address.rpartition(":")
        if not host or re.search(r"[\s/]", host) or not _is_port(port):
            raise ValueError(f"must be host:port,… with ports of 1 to {PORT_MAX}")
    return value


def _check_target(value: str) -> str:
    found = _TARGET.fullmatch(value)
    if found is None and not value.startswith(("unix:", "ipv4:", "ipv6:", "xds:")):
        raise ValueError("must be dns:///host:port or host:port")
    if found is not None and not _is_port(found["port"]):
        raise ValueError(f"must have a port of 1 to {PORT_MAX}")
    return value


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) <= PORT_MAX


def check_redis_url(value: SecretStr) -> SecretStr:
    """Return an address of Redis; raise ValueError if it is none."""
    try:
        parse_redis_url(value.get_secret_value())
    except ValueError:
        # Without the library's words: they may quote a part of the password.
        raise ValueError(
            "must be redis://[user:password@]host[:port][/database], or rediss:// or unix://"
        ) from None
    return value


def _check_postgres_dsn(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [match[1] for host in hosts if (match := re.search(r":([^\]:]*)$", host))]
    if parts.scheme not in ("postgresql", "postgres") or not all(map(_is_port, ports)):
        raise ValueError("must be postgresql://[user:password@]host[:port]/database")
    return value


Listen = Annotated[
    str,
    AfterValidator(_check_listen),
    Field(description="Address to listen on, host:port; port 0 takes a free one."),
]
Target = Annotated[
    str,
    AfterValidator(_check_target),
    Field(description="Address of that service: dns:///host:port, balanced over its replicas."),
]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0)]


class ProcessSettings(BaseSettings):
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


class RedisSettings(BaseSettings):
    """Where Redis is."""

    model_config = CONFIG

    # Address and credentials of Redis or Valkey: redis://, rediss:// (TLS) or unix://.
    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)]
    # A command that takes longer has failed; its effect is unknown.
    redis_timeout_s: Seconds = 1.0
    # Connections of this process; a command waits for a free one as long as for an answer.
    redis_connections_max: Count = 16


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


class KafkaSettings(BaseSettings):
    """Where Kafka is, and what its topics are called."""

    model_config = CONFIG

    # Brokers to connect to first, host:port, separated by commas.
    kafka_bootstrap: Annotated[str, AfterValidator(_check_addresses)]
    # Topic of reservation events: inventory_svc produces, order_svc consumes.
    orders_topic: str = "seckill.orders.v1"
    # Topic of dead letters: what neither service can use.
    dead_letter_topic: str = "seckill.orders.v1.dlq"


class PostgresSettings(BaseSettings):
    """Where Postgres is."""

    model_config = CONFIG

    # Address and credentials of the database: postgresql://user:password@host:port/database.
    postgres_dsn: Annotated[SecretStr, AfterValidator(_check_postgres_dsn)]
    # A statement that takes longer has failed.
    postgres_timeout_s: Seconds = 5.0
    # Connections of this process.
    postgres_connections_max: Count = 8


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


def unknown_variables(
    settings_type: type[BaseSettings], *, service: str, env: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Find variables that nothing reads, e.g. misspelt ones; one sentence each.

    Services may share an environment, so each one judges the variables that begin with its own
    name, and those that begin with no service's name.
    """
    known = {PREFIX + name.upper() for name in settings_type.model_fields}
    # The settings of a store that this service does not use may stand there for another one.
    for shared in (
        ProcessSettings,
        RedisSettings,
        SaleMetricsSettings,
        KafkaSettings,
        PostgresSettings,
    ):
        known |= {PREFIX + name.upper() for name in shared.model_fields}
    siblings = tuple(f"{PREFIX}{name.upper()}_" for name in SERVICES if name != service)
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable in known or variable.startswith(siblings):
            continue
        if _OTHERS.fullmatch(variable) or _SERVICE_LINK.fullmatch(variable):
            continue
        close = difflib.get_close_matches(variable, known, n=1)
        yield f"{variable} is unknown" + (f"; did you mean {close[0]}?" if close else "")


def read_file(path: str) -> str:
    """Return the contents of a file that a setting names; raise ValueError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
