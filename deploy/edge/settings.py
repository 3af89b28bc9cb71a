"""Settings of the edge: of Envoy's configuration, and of the agent beside it."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from seckill.settings import Count, Listen, ProcessSettings, Seconds

# Calls per second; 0 switches the bucket off.
Rate = Annotated[int, Field(ge=0, le=10_000_000)]
# An origin as browsers send it: scheme, host, and a port that is not the scheme's own.
ORIGIN = r"^(\*|https?://[^/\s,]+)$"


class EdgeSettings(ProcessSettings):
    """Read from SECKILL_EDGE_…; see ProcessSettings for what all processes have."""

    # Where the public calls, and where Envoy tells its readiness (/ready) and metrics (/metrics).
    edge_listen: Listen = "0.0.0.0:8080"
    edge_stats_listen: Listen = "0.0.0.0:9106"
    # The agent's own metrics.
    edge_metrics_listen: Listen = "0.0.0.0:9105"
    # Configuration, routes and sockets; Envoy and the agent see the same folder.
    edge_directory: Path = Path("/run/seckill-edge")
    # "dns:///host:port": the gateway's replicas by name, and inventory for the agent.
    gateway_target: Annotated[str, Field(pattern=r"^(dns:///)?[^/\s]+:\d{1,5}$")] = (
        "dns:///127.0.0.1:50051"
    )
    inventory_target: str = "dns:///127.0.0.1:50052"

    # off: plaintext; optional: both on the one port; required: TLS only. Certificate, key and the
    # clients' authority are PEM files, read again when their folder changes.
    edge_tls: Literal["off", "optional", "required"] = "off"
    edge_tls_certificate: str = ""
    edge_tls_key: str = ""
    edge_client_certificates: Literal["off", "optional", "required"] = "off"
    edge_client_ca: str = ""

    # Proxies in front of Envoy whose x-forwarded-for is believed, counted from the right.
    edge_trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    # Origins whose pages may call, comma-separated; "*" is every page; empty is none but our own.
    edge_cors_origins: str = ""
    # Folder of static files, served under /; empty serves none.
    edge_web_directory: str = ""
    # What is logged: nothing; calls that failed by our fault or were slow; everything.
    edge_access_log: Literal["off", "faults", "all"] = "faults"
    # A call slower than this is in the log of faults.
    edge_slow_s: Seconds = 1.0

    # Connections from the public; those beyond are closed at once. Calls under way on each.
    edge_connections_max: Count = 20_000
    edge_streams_max: Count = 128
    # Calls under way to the gateway in all; those beyond are refused.
    edge_calls_max: Count = 20_000
    # Heap at which Envoy accepts no more calls; it sheds what it can before that.
    edge_heap_max_mb: Annotated[int, Field(ge=64, le=65_536)] = 512
    # Bytes of a request's body; headers in number and in KiB (a JWT may have 8).
    edge_body_bytes_max: Annotated[int, Field(ge=1_024, le=4_194_304)] = 65_536
    edge_headers_max: Annotated[int, Field(ge=16, le=1_000)] = 64
    edge_headers_kb_max: Annotated[int, Field(ge=12, le=96)] = 24
    # How long a client may take for its headers, for its whole request, and to say nothing at all.
    edge_headers_timeout_s: Seconds = 5.0
    edge_request_timeout_s: Seconds = 10.0
    edge_idle_timeout_s: Seconds = 60.0
    # The longest time for an answer, and for watching an order.
    edge_call_timeout_s: Seconds = 10.0
    edge_watch_timeout_s: Seconds = 900.0

    # Token buckets of this Envoy: for all calls, and for each address (IPv6: for its /64).
    edge_rate_all: Rate = 0
    edge_burst_all: Count = 20_000
    edge_rate_ip: Rate = 200
    edge_burst_ip: Count = 400
    # Addresses that have a bucket, about 500 bytes each; the longest unused one goes first.
    edge_addresses_max: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000

    # Envoy's right to refuse ends this long after the agent last renewed it.
    edge_lease_s: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    # How long the sales' flags are believed after inventory last told of them, which it does every
    # second. They are not believed at all while there is no stream.
    edge_flags_believed_s: Seconds = 3.0
    # Sales refused by Envoy at the same time, holders of one of them, and of all; whatever is
    # beyond the gateway refuses. A refusal costs 2 µs more for every 300 holders of the sale.
    edge_refusals_max: Annotated[int, Field(ge=0, le=10_000)] = 1_000
    edge_holders_max: Annotated[int, Field(ge=0, le=5_000)] = 1_000
    edge_holders_total_max: Annotated[int, Field(ge=0, le=50_000)] = 5_000

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may call."""
        return tuple(part.strip() for part in self.edge_cors_origins.split(",") if part.strip())

    @field_validator("edge_cors_origins")
    @classmethod
    def _origins_parse(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip() and re.match(ORIGIN, part.strip()) is None:
                raise ValueError(f"{part.strip()!r} is not an origin like https://shop.example")
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
