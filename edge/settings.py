"""Settings of the edge: of Envoy's configuration, and of the agent beside it."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from edge.operators.settings import OperatorSettings, Replicas
from seckill.runtime.settings import Count, Listen, ProcessSettings, Seconds

# Calls per second; 0 switches the bucket off.
Rate = Annotated[int, Field(ge=0, le=10_000_000)]
# An origin as browsers send it: scheme, host, and a port that is not the scheme's own.
ORIGIN = r"^(\*|https?://[^/\s,]+)$"


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


class EdgeSettings(OperatorSettings, ProcessSettings):
    """Read from SECKILL_EDGE_…; see ProcessSettings for what all processes have."""

    # Listener of the public; listener of Envoy's readiness (/ready) and metrics (/metrics).
    edge_listen: Listen = "0.0.0.0:8080"
    edge_stats_listen: Listen = "0.0.0.0:9106"
    # The agent's own metrics.
    edge_metrics_listen: Listen = "0.0.0.0:9105"
    # Folder of configuration, routes and sockets, shared by Envoy and the agent.
    edge_directory: Path = Path("/run/seckill-edge")
    # "dns:///host:port": the gateway's replicas by name; or "ipv4:address:port,address:port". And
    # inventory for the agent.
    gateway_target: Replicas = "dns:///127.0.0.1:50051"
    inventory_target: Replicas = "dns:///127.0.0.1:50052"

    # Calls in JSON: passed on to the gateway, whose http2 front answers them; or transcoded to gRPC
    # here, for a gateway with the grpcio front, which ignores fields that it does not know.
    edge_json: Literal["passed", "transcoded"] = "passed"
    # What the gateway behind has: its http2 front answers what is passed on, if its JSON is on.
    gateway_front: Literal["http2", "grpcio"] = "http2"
    gateway_json: Literal["on", "off"] = "on"
    # off: plaintext; optional: both on the one port; required: TLS only. Certificate, key and the
    # clients' authority are PEM files, read again when their folder changes.
    edge_tls: Literal["off", "optional", "required"] = "off"
    edge_tls_certificate: str = ""
    edge_tls_key: str = ""
    edge_client_certificates: Literal["off", "optional", "required"] = "off"
    edge_client_ca: str = ""

    # Proxies in front of Envoy whose x-forwarded-for is trusted, counted from the right.
    edge_trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    # Origins whose pages may call, comma-separated; "*" is every page; empty is none but our own.
    edge_cors_origins: str = ""
    # Folder of static files, served under /; empty serves none.
    edge_web_directory: str = ""
    # Origins of an attestation provider, comma-separated, e.g. https://challenges.cloudflare.com:
    # the pages' policy lets its widget run, show itself and call home. Empty: only ours runs.
    edge_attestation_origins: str = ""
    # What is logged: nothing; calls that failed by a fault of the mesh or were slow; everything.
    edge_access_log: Literal["off", "faults", "all"] = "faults"
    # A call slower than this is in the log of faults, unless it is a watch.
    edge_slow_s: Seconds = 1.0
    # At this age a connection from the public is drained, so that clients find new replicas.
    connection_age_max_s: Seconds = 600.0

    # Connections from the public; those beyond are closed at once. Calls in flight on each.
    edge_connections_max: Count = 20_000
    edge_streams_max: Count = 128
    # Purchases, purchase tokens and looks at sales in flight to the gateway; those beyond are told
    # OVERLOADED. It is work for a tenth of a second: set it to a tenth of what the replicas behind
    # answer a second. More would only wait here, and be refused there at a higher cost.
    edge_purchases_max: Count = 2_000
    # Whether Envoy refuses a share of the purchases while the gateways refuse calls: as many as
    # they could not answer, at a fraction of what a refusal costs that has passed through to them.
    edge_shed: Literal["on", "off"] = "off"
    # Calls about orders in flight to the gateway, watches among them.
    edge_calls_max: Count = 20_000
    # Heap at which Envoy accepts no more calls; it starts to shed before that.
    edge_heap_max_mb: Annotated[int, Field(ge=64, le=65_536)] = 512
    # Bytes of a request's body; headers in number and in KiB (a JWT may have 8).
    edge_body_bytes_max: Annotated[int, Field(ge=1_024, le=4_194_304)] = 65_536
    edge_headers_max: Annotated[int, Field(ge=16, le=1_000)] = 64
    edge_headers_kb_max: Annotated[int, Field(ge=12, le=96)] = 24
    # How long a client may take for its headers and for its whole request, and stay silent.
    edge_headers_timeout_s: Seconds = 5.0
    edge_request_timeout_s: Seconds = 10.0
    edge_idle_timeout_s: Seconds = 60.0
    # The longest time for an answer, and for watching an order.
    edge_call_timeout_s: Seconds = 10.0
    edge_watch_timeout_s: Seconds = 900.0

    # Token buckets of this Envoy: for all calls; and two of the same size for each address (IPv6:
    # for its /64), of its calls about sales and of those about orders.
    edge_rate_all: Rate = 0
    edge_burst_all: Count = 20_000
    edge_rate_ip: Rate = 200
    edge_burst_ip: Count = 400
    # Addresses that have a bucket, about 1 KB each; the longest unused one goes first.
    edge_addresses_max: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000

    # Envoy's right to refuse ends this long after the agent last renewed it.
    edge_lease_s: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    # How long what inventory said of the sales is used after its last message; it sends one every
    # second. It is not used at all while there is no stream.
    edge_sale_cache_ttl_s: Seconds = 3.0
    # Sales that Envoy refuses at the same time, holders of one of them, and of all; the gateway
    # refuses the others. A refusal costs 2 µs more for every 300 holders of the sale.
    edge_refusals_max: Annotated[int, Field(ge=0, le=10_000)] = 1_000
    edge_holders_max: Annotated[int, Field(ge=0, le=5_000)] = 1_000
    edge_holders_total_max: Annotated[int, Field(ge=0, le=50_000)] = 5_000

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins whose pages may call."""
        return _parts(self.edge_cors_origins)

    @property
    def attestation_origins(self) -> tuple[str, ...]:
        """Origins whose scripts and frames the pages may use."""
        return tuple(
            part.strip() for part in self.edge_attestation_origins.split(",") if part.strip()
        )

    @field_validator("edge_cors_origins", "edge_attestation_origins")
    @classmethod
    def _origins_parse(cls, value: str, info: ValidationInfo) -> str:
        every_page_may = info.field_name == "edge_cors_origins"
        for origin in _parts(value):
            if re.match(ORIGIN, origin) is None or (origin == "*" and not every_page_may):
                raise ValueError(f"{origin!r} is not an origin like https://shop.example")
        return value

    @field_validator("gateway_front", "gateway_json")
    @classmethod
    def _passed_json_is_answered(cls, value: str, info: ValidationInfo) -> str:
        if value in {"grpcio", "off"} and info.data.get("edge_json") == "passed":
            raise ValueError("answers no JSON: set SECKILL_EDGE_JSON=transcoded")
        return value

    @field_validator("edge_tls_certificate", "edge_tls_key")
    @classmethod
    def _tls_has_files(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("edge_tls") != "off" and not value:
            raise ValueError("a PEM file is needed unless SECKILL_EDGE_TLS is off")
        return value

    @field_validator("edge_client_certificates")
    @classmethod
    def _required_means_tls(cls, value: str, info: ValidationInfo) -> str:
        if value == "required" and info.data.get("edge_tls") != "required":
            raise ValueError("needs SECKILL_EDGE_TLS=required")
        return value

    @field_validator("edge_client_ca")
    @classmethod
    def _clients_have_an_authority(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("edge_client_certificates") != "off" and not value:
            raise ValueError("a PEM file is needed unless SECKILL_EDGE_CLIENT_CERTIFICATES is off")
        return value
