"""Settings of the gateway."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from gateway.addresses import parse_networks
from gateway.jwks import is_url, parse_jwks
from gateway.tokens import parse_keys
from seckill.settings import Count, Listen, ProcessSettings, Seconds, read_file

# Calls per second; 0 switches the bucket off.
Rate = Annotated[float, Field(ge=0, le=10_000_000)]


class GatewaySettings(ProcessSettings):
    """Read from SECKILL_GATEWAY_…; see ProcessSettings for what all stages have."""

    gateway_listen: Listen = "0.0.0.0:50051"
    gateway_metrics_listen: Listen = "0.0.0.0:9101"
    inventory_target: str = "dns:///127.0.0.1:50052"
    order_target: str = "dns:///127.0.0.1:50053"

    # native: batches from Rust; grpcio: the same handlers on grpc.aio alone.
    gateway_front: Literal["native", "grpcio"] = "native"
    # Threads of the native front; Python is the bottleneck long before one of them is.
    gateway_io_threads: Annotated[int, Field(ge=1, le=64)] = 1
    # Calls under way on one connection of the native front; a client queues the others.
    gateway_streams_max: Count = 256
    # Hot calls under way in this process; those beyond are refused at once.
    gateway_calls_max: Count = 20_000

    # The issuer's keys: path or http(s) URL of a JWKS document; what tokens must name.
    gateway_jwks: Annotated[str, Field(min_length=1)]
    gateway_jwks_reload_s: Seconds = 300.0
    gateway_jwt_issuer: Annotated[str, Field(min_length=1)]
    gateway_jwt_audience: Annotated[str, Field(min_length=1)] = "seckill"
    # Verified tokens remembered, about 1 KB each; the verification is the dearest check of all.
    gateway_identities_max: Count = 200_000

    # "kid:base64secret,kid2:…": the first signs, all verify.
    gateway_token_keys: SecretStr
    gateway_token_ttl_s: Seconds = 10.0

    # Token buckets: tokens a second, and how many a full bucket holds. For this process.
    gateway_rate_all: Rate = 0.0
    gateway_burst_all: Count = 10_000
    gateway_rate_ip: Rate = 200.0
    gateway_burst_ip: Count = 400
    gateway_rate_user: Rate = 10.0
    gateway_burst_user: Count = 20
    # Buckets of each kind in memory, about 200 bytes each.
    gateway_buckets_max: Count = 500_000
    # CIDRs, comma-separated: peers that have no bucket, and proxies that may name the client.
    gateway_ip_exempt: str = "127.0.0.0/8,::1/128"
    gateway_trusted_proxies: str = ""

    # How long the sales' flags are believed after the stream from inventory broke.
    gateway_flags_believed_s: Seconds = 5.0
    # Unknown skus asked for at the same time.
    gateway_lookups_max: Count = 32

    # One call to inventory or order: items, calls at once (for each sku; 1 keeps arrival order
    # strictly), items that may wait, and its longest time.
    gateway_batch_max: Annotated[int, Field(ge=1, le=1_024)] = 512
    gateway_batches_under_way_max: Count = 2
    gateway_waiting_max: Count = 10_000
    gateway_inventory_timeout_s: Seconds = 2.0
    gateway_order_timeout_s: Seconds = 3.0

    @field_validator("gateway_token_keys")
    @classmethod
    def _token_keys_parse(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @field_validator("gateway_ip_exempt", "gateway_trusted_proxies")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("gateway_jwks")
    @classmethod
    def _jwks_parses(cls, value: str, info: ValidationInfo) -> str:
        # A URL is read when the process starts, by the same rule.
        if not is_url(value):
            development = info.data.get("profile") == "development"
            parse_jwks(read_file(value), allow_symmetric=development)
        return value
