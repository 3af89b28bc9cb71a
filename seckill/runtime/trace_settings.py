"""Settings of traces, the same for all services."""

import ssl
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _check_endpoint(value: str) -> str:
    if not value:
        return value
    problem = "is not http://host:port or https://host:port"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(problem) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
        raise ValueError(problem)
    if parts.username or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(problem)
    return value


class TraceSettings(BaseSettings):
    """Whether there are traces, and how many."""

    model_config = SettingsConfigDict(env_prefix="SECKILL_", frozen=True, extra="ignore")

    # Collector that takes spans by OTLP over HTTP in JSON, http://host:4318, or https://; empty: no
    # traces (docs/traces.md).
    traces_endpoint: Annotated[str, AfterValidator(_check_endpoint)] = ""
    # PEM file of the authority of an https:// collector; empty: those that the system trusts.
    traces_tls_ca: str = ""
    # Share of the calls that are traced if they bring no trace of their own. Calls that fail by a
    # fault of the mesh are traced anyhow.
    traces_share: Annotated[float, Field(ge=0, le=1)] = 0.001
    # Failed calls a second and process that are traced without having been chosen; of more only
    # their number is kept.
    traces_errors_per_s_max: Annotated[int, Field(ge=0, le=100_000)] = 200
    # Spans that wait for the collector, about 2 KB each; more are counted and thrown away.
    traces_queue_max: Annotated[int, Field(ge=512, le=100_000)] = 2_048
    # How long spans wait for others, to be sent together.
    traces_interval_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    # How long the collector may take; then its spans are given up.
    traces_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0

    @field_validator("traces_tls_ca")
    @classmethod
    def _authority_is_readable(cls, value: str) -> str:
        if value:
            try:
                ssl.create_default_context(cafile=value)
            except OSError as error:  # an SSLError is one, too
                raise ValueError(f"cannot be used: {error.strerror or error}") from error
        return value
