"""Settings of the gateway."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.addresses import parse_networks
from gateway.hoarding_settings import HoardingSettings
from gateway.risk.settings import RiskSettings
from seckill.front.limits import FrontLimits
from seckill.runtime.addresses import check_redis_url
from seckill.runtime.gate_limits import Burst, Rate
from seckill.runtime.http2.targets import parse_target
from seckill.runtime.jwks import is_url, parse_jwks
from seckill.runtime.purchase_tokens import parse_keys, refuse_weak_key
from seckill.runtime.settings import ArrivalSettings, Count, Listen, Seconds, Target, read_file
from seckill.runtime.store_settings import (
    SharedRedisSettings,
    check_redis_cluster,
    check_redis_tls,
)
from seckill.runtime.store_tls import TlsFiles


def _check_redis_url(value: SecretStr) -> SecretStr:
    return check_redis_url(value) if value.get_secret_value() else value


class GatewaySettings(RiskSettings, HoardingSettings, ArrivalSettings, SharedRedisSettings):
    """Read from SECKILL_GATEWAY_…; see ProcessSettings for what all services have."""

    gateway_listen: Listen = "0.0.0.0:50051"
    gateway_metrics_listen: Listen = "0.0.0.0:9101"
    inventory_target: Target = "dns:///127.0.0.1:50052"
    order_target: Target = "dns:///127.0.0.1:50053"

    # http2: our own front, with admission by time before a call is decoded; grpcio: the same
    # handlers on grpc.aio alone.
    gateway_front: Literal["http2", "grpcio"] = "http2"
    # How inventory is asked for units. http2: a channel of our own, at half of the CPU; grpcio:
    # one of grpc.aio, which everything else goes over, and which also knows targets that name a DNS
    # server or xDS.
    gateway_inventory_channel: Literal["http2", "grpcio"] = "http2"
    # Whether the http2 front also answers JSON over HTTP/1.1 and 2, on the same port, by the paths
    # that the edge has: the edge passes its JSON calls on to it.
    gateway_json: Literal["on", "off"] = "on"
    # PEM file of the certificate with its chain; empty: HTTP in clear. Clients choose the version
    # by ALPN. The http2 front reads a new file within a second.
    gateway_tls_certificate: str = ""
    # PEM file of the certificate's private key; set together with the certificate.
    gateway_tls_key: str = ""

    # A batched call is refused on arrival when the calls before it would take longer than this
    # share of its own deadline: what is left of it is for the work, and for being wrong.
    gateway_wait_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    # The longest such wait, whatever the deadline: calls without one must not fill the queue.
    gateway_wait_max_s: Seconds = 2.0
    # Work, in seconds, that the handlers hold at once; what waits before them can still be refused.
    gateway_work_ahead_s: Seconds = 0.1
    # Batched calls in flight in this process, however fast they are answered: it bounds memory.
    gateway_calls_max: Count = 10_000

    # Connections of the http2 front in all, about 20 KB each; from nine tenths of them on those
    # without a call are closed after a second.
    gateway_connections_max: Count = 10_000
    # Calls in flight on one connection; a client queues the others.
    gateway_streams_max: Count = 256
    # Calls that one connection may cancel a second, and four times as many at once. Callers give up
    # at their deadlines (20 times a second for each stream, at 50 ms); only a flood is faster.
    gateway_resets_per_s_max: Count = 5_000
    # Requests of all connections whose bodies have not come whole, up to 32 KB each; if they are
    # too many the oldest is ended. An honest one is a packet or two.
    gateway_half_open_max: Count = 2_048
    # How long such a request may take to come whole.
    gateway_request_timeout_s: Seconds = 10.0
    # A connection that does not begin with HTTP/2 within this time is closed.
    gateway_handshake_timeout_s: Seconds = 5.0
    # A connection that has had no call for this long is asked to end.
    gateway_idle_timeout_s: Seconds = 120.0
    # A connection whose caller takes none of its answers for this long is closed.
    gateway_unread_timeout_s: Seconds = 20.0
    # A connection on which more bytes of answers than this wait for windows to open is closed.
    gateway_unread_bytes_max: Count = 4 * 1024 * 1024
    # Of one call's metadata; a token has 8 KB at most.
    gateway_header_bytes_max: Annotated[int, Field(ge=4_096, le=1_048_576)] = 16 * 1024
    # Calls of the methods that are not batched (watches and the like) open at once, about 30 KB
    # each.
    gateway_passed_streams_max: Count = 4_096
    # Bytes of their requests in memory: one may have 4 MiB, though none needs a kilobyte.
    gateway_passed_bytes_max: Count = 64 * 1024 * 1024

    # The issuer's keys: path or http(s) URL of a JWKS document; what tokens must name.
    gateway_jwks: Annotated[str, Field(min_length=1)]
    gateway_jwks_reload_s: Seconds = 300.0
    gateway_jwt_issuer: Annotated[str, Field(min_length=1)]
    gateway_jwt_audience: Annotated[str, Field(min_length=1)] = "seckill"
    # Verified tokens remembered, about 450 bytes each; verification is the most expensive check.
    gateway_identities_max: Count = 200_000

    # "kid:base64secret,kid2:…": the first signs, all verify. The production profile refuses the
    # development's keys, and secrets that are short or repeat themselves.
    gateway_token_keys: SecretStr
    # Life of a purchase token. The production profile refuses tokens that have longer to live,
    # also those that we have signed.
    gateway_token_ttl_s: Seconds = 10.0

    # Whether buyers may state payments (PayOrder), as in a sandbox: no money moves. The production
    # profile refuses it.
    gateway_sandbox_payments: bool = False

    # Token buckets: tokens a second, and how many a full bucket holds. For this process, and unless
    # operators have set other limits (`seckill limits`).
    gateway_rate_all: Rate = 0.0
    gateway_burst_all: Burst = 10_000
    gateway_rate_ip: Rate = 200.0
    gateway_burst_ip: Burst = 400
    # The same for calls about orders (polls, watches, payments, cancellations) of one address: its
    # purchases leave room for them.
    gateway_rate_ip_orders: Rate = 200.0
    gateway_burst_ip_orders: Burst = 400
    # The same for payment providers' callbacks from one address.
    gateway_rate_ip_callbacks: Rate = 200.0
    gateway_burst_ip_callbacks: Burst = 1_000
    gateway_rate_user: Rate = 10.0
    gateway_burst_user: Burst = 20
    # Purchase tokens issued, a second and at once: to a buyer, and to an address. With Redis these
    # are of all gateways together.
    gateway_rate_issue: Rate = 10.0
    gateway_burst_issue: Burst = 20
    gateway_rate_ip_issue: Rate = 400.0
    gateway_burst_ip_issue: Burst = 800
    # Redis or Valkey in which the gateways share these buckets, redis://, rediss:// or unix://;
    # empty: each gateway has its own. May be inventory's. For rediss:// with SECKILL_REDIS_TLS_….
    gateway_redis_url: Annotated[SecretStr, AfterValidator(_check_redis_url)] = SecretStr("")
    # If Redis has not answered within this time, the gateway's own buckets decide.
    gateway_redis_timeout_s: Annotated[float, Field(gt=0, le=1)] = 0.05
    # Buckets of each kind in memory, about 140 bytes each; one is full again, and not needed, after
    # the seconds of its burst.
    gateway_buckets_max: Count = 100_000
    # Addresses in memory, so that they need not be parsed again, about 450 bytes each.
    gateway_addresses_max: Count = 32_768
    # CIDRs, comma-separated: peers that have no bucket, and proxies that may name the client.
    gateway_ip_exempt: str = "127.0.0.0/8,::1/128"
    gateway_trusted_proxies: str = ""
    # Trusted proxies in a row before this process: of x-forwarded-for so many addresses count, from
    # the right. More than there are lets callers choose the address that they are charged as.
    gateway_trusted_hops: Annotated[int, Field(ge=1, le=8)] = 1

    # Calls a second that are traced because their callers say so (traceparent: sampled); of more
    # SECKILL_TRACES_SHARE decides, as of all others.
    gateway_traced_callers_per_s_max: Annotated[int, Field(ge=0, le=100_000)] = 10

    # How long the sales' flags are used after the stream from inventory broke.
    gateway_sale_cache_ttl_s: Seconds = 5.0
    # Sales read at the same time; as many unknown skus may be waited for, and a quarter of them
    # asked for while the stream is down.
    gateway_lookups_max: Count = 32

    # Watches open at once: of one buyer, of one order of theirs, and from one address.
    gateway_watches_buyer_max: Count = 8
    gateway_watches_order_max: Count = 4
    gateway_watches_ip_max: Count = 256

    # One call to inventory or order: items, calls at once (for each sku; 1 keeps arrival order
    # strictly), items that may wait, and its longest time.
    gateway_batch_max: Annotated[int, Field(ge=1, le=1_024)] = 512
    gateway_batches_in_flight_max: Count = 2
    gateway_waiting_max: Count = 10_000
    gateway_inventory_timeout_s: Seconds = 2.0
    gateway_order_timeout_s: Seconds = 3.0

    @field_validator("gateway_front", mode="before")
    @classmethod
    def _front_is_known(cls, value: object) -> object:
        if value == "native":
            raise ValueError("is gone; http2, which is the default, takes its place")
        return value

    @model_validator(mode="after")
    def _channel_knows_its_target(self) -> Self:
        if self.gateway_inventory_channel == "http2":
            try:
                parse_target(self.inventory_target)
            except ValueError as error:
                raise ValueError(
                    f"SECKILL_INVENTORY_TARGET={self.inventory_target!r}: {error}; set"
                    " SECKILL_GATEWAY_INVENTORY_CHANNEL=grpcio"
                ) from error
        return self

    @model_validator(mode="after")
    def _certificate_is_usable(self) -> Self:
        if bool(self.gateway_tls_certificate) != bool(self.gateway_tls_key):
            raise ValueError(
                "SECKILL_GATEWAY_TLS_CERTIFICATE and SECKILL_GATEWAY_TLS_KEY are set together"
            )
        if self.gateway_tls_certificate and self.mesh_tls_certificate:
            raise ValueError(
                "SECKILL_GATEWAY_TLS_CERTIFICATE is for a gateway that buyers call without an"
                " edge; with SECKILL_MESH_TLS_CERTIFICATE only the edge and operators call it"
            )
        return self

    @model_validator(mode="after")
    def _redis_address_fits_its_files(self) -> Self:
        url = self.gateway_redis_url
        check_redis_tls("SECKILL_GATEWAY_REDIS_URL", url, self.own_redis_files())
        if url.get_secret_value():
            check_redis_cluster("SECKILL_GATEWAY_REDIS_URL", url, cluster=self.redis_cluster)
        return self

    def own_redis_files(self) -> TlsFiles:
        """Return the files for TLS to the gateway's Redis; none if its address is in clear.

        Inventory's Redis, for which they are in a shared environment, may be another one.
        """
        encrypted = self.gateway_redis_url.get_secret_value().startswith("rediss://")
        return self.redis_tls_files() if encrypted else TlsFiles("SECKILL_REDIS_TLS")

    def front_limits(self) -> FrontLimits:
        """What callers may take of the http2 front."""
        return FrontLimits(
            connections_max=self.gateway_connections_max,
            streams_max=self.gateway_streams_max,
            resets_per_s_max=self.gateway_resets_per_s_max,
            half_open_max=self.gateway_half_open_max,
            request_timeout_s=self.gateway_request_timeout_s,
            handshake_timeout_s=self.gateway_handshake_timeout_s,
            idle_timeout_s=self.gateway_idle_timeout_s,
            unread_timeout_s=self.gateway_unread_timeout_s,
            unread_bytes_max=self.gateway_unread_bytes_max,
            header_bytes_max=self.gateway_header_bytes_max,
            passed_streams_max=self.gateway_passed_streams_max,
            passed_bytes_max=self.gateway_passed_bytes_max,
            age_max_s=self.connection_age_max_s,
            age_grace_s=self.connection_grace_s,
            drain_timeout_s=self.drain_timeout_s,
        )

    @field_validator("gateway_sandbox_payments")
    @classmethod
    def _sandbox_is_for_development(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("profile") == "production":
            raise ValueError("a buyer would pay without money; the production profile refuses it")
        return value

    @field_validator("gateway_token_keys")
    @classmethod
    def _token_keys_parse(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        keys = parse_keys(value.get_secret_value())
        if info.data.get("profile") == "production":
            for key in keys:
                refuse_weak_key(key)
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
