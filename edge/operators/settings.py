"""Settings of the operators' listener."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from seckill.runtime.addresses import check_listen
from seckill.runtime.jwks import is_url, parse_jwks
from seckill.runtime.settings import CONFIG, Seconds, read_file

# "dns:///host:port": a service's replicas by name; or "ipv4:address:port,address:port".
Replicas = Annotated[
    str, Field(pattern=r"^(ipv4:[\d.]+:\d{1,5}(,[\d.]+:\d{1,5})*|(dns:///)?[^/\s,]+:\d{1,5})$")
]
WEB_ADDRESS = r"^(https?://[^\s]+)?$"
# A name that is a part of a path, and an address.
METRICS_SOURCE = re.compile(r"(?P<name>[a-z0-9-]{1,40})=(?P<address>[^\s/,=]+:\d{1,5})")


class OperatorSettings(BaseSettings):
    """Read from SECKILL_EDGE_OPERATOR_…, and what the listener shares with the order service."""

    model_config = CONFIG

    # Listener of the operators, host:port: their console, and the methods that it calls. It is for
    # a network that the public does not reach. Empty: there is none.
    edge_operator_listen: Annotated[str, Field(validate_default=True)] = ""
    # Folder of the console's static files; empty serves none.
    edge_operator_web_directory: str = ""
    # Where operators sign in: a page of the shop's own that sends them back to the console with
    # `#token=…&state=…`. Empty: they paste a token.
    edge_operator_sign_in: Annotated[str, Field(pattern=WEB_ADDRESS)] = ""
    # Where the charts are, e.g. a dashboard of Grafana; the console links it.
    edge_operator_charts: Annotated[str, Field(pattern=WEB_ADDRESS)] = ""
    # Metrics that the console adds up, name=host:port of every replica, comma-separated, e.g.
    # gateway-1=10.0.0.5:9101. Empty: it shows none, and links the charts.
    edge_operator_metrics: str = ""
    # Origin of the public's edge that the console may call, for rehearsals with identities of the
    # development issuer; the production profile refuses it.
    edge_operator_public_origin: Annotated[str, Field(pattern=r"^(https?://[^/\s,]+)?$")] = ""

    # Services behind it, beside gateway and inventory.
    order_target: Replicas = "dns:///127.0.0.1:50053"
    rollback_target: Replicas = "dns:///127.0.0.1:50054"
    # Who is an operator, as the order service has it: the keys that sign their tokens (path or
    # http(s) URL of a JWKS document), what the tokens must name, and how often a URL is read again;
    # a file is read again when it changes. Needed with the listener.
    order_operator_jwks: Annotated[str, Field(validate_default=True)] = ""
    order_operator_jwt_issuer: Annotated[str, Field(validate_default=True)] = ""
    order_operator_jwt_audience: Annotated[str, Field(min_length=1)] = "seckill"
    order_operator_jwks_reload_s: Seconds = 300.0

    @property
    def metrics_sources(self) -> Mapping[str, str]:
        """Addresses of metrics by name."""
        parts = [part.strip() for part in self.edge_operator_metrics.split(",") if part.strip()]
        return dict(part.split("=", 1) for part in parts)

    @field_validator("edge_operator_listen")
    @classmethod
    def _listens(cls, value: str) -> str:
        return check_listen(value) if value else value

    @field_validator("edge_operator_metrics")
    @classmethod
    def _metrics_have_names(cls, value: str) -> str:
        names: set[str] = set()
        for part in filter(None, map(str.strip, value.split(","))):
            found = METRICS_SOURCE.fullmatch(part)
            if found is None:
                raise ValueError(f"{part!r} is not name=host:port, with a name of [a-z0-9-]")
            if found["name"] in names:
                raise ValueError(f"{found['name']!r} is there twice")
            names.add(found["name"])
        return value

    @field_validator("edge_operator_public_origin")
    @classmethod
    def _rehearsals_are_for_development(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("profile") == "production":
            raise ValueError("is for development; the production profile refuses it")
        return value

    @field_validator("order_operator_jwks")
    @classmethod
    def _listener_has_keys(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("edge_operator_listen"):
            return value
        if not value:
            raise ValueError("is required with SECKILL_EDGE_OPERATOR_LISTEN")
        # A URL is read when the agent starts, by the same rule.
        if not is_url(value):
            development = info.data.get("profile") == "development"
            parse_jwks(read_file(value), allow_symmetric=development)
        return value

    @field_validator("order_operator_jwt_issuer")
    @classmethod
    def _operators_have_an_issuer(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("edge_operator_listen") and not value:
            raise ValueError("is required with SECKILL_EDGE_OPERATOR_LISTEN")
        return value
