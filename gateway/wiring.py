"""The wiring of the gate: rules, buckets, identity, and what issues purchase tokens."""

from typing import TYPE_CHECKING

import grpc

from gateway.addresses import ClientAddresses, parse_networks
from gateway.admission import Admission
from gateway.buckets import Buckets
from gateway.challenge.opening import open_challenges
from gateway.identity import Identity
from gateway.issue.issuer import Shared, TokenIssuer
from gateway.issue.shared_buckets import BucketStore, SharedBuckets
from gateway.issue.token_gate import TokenGate
from gateway.limits import BucketLimits, limits_of
from gateway.metrics import count_refusals, watch_buckets
from gateway.risk.assessor import Assessor
from gateway.rules_feed import RulesFeed
from gateway.settings import GatewaySettings
from gateway.unpaid_cap import UnpaidCap
from seckill.runtime.channel import open_channel
from seckill.runtime.jwks import KeySet
from seckill.runtime.process import Process
from seckill.runtime.purchase_tokens import PurchaseTokens, parse_keys
from seckill.runtime.redis_client import open_redis
from seckill.runtime.store_settings import RedisSettings
from seckill.v1 import gate_pb2_grpc

if TYPE_CHECKING:
    import redis.asyncio

GATE_RULES = "seckill.v1.GateRulesService"


async def open_rules(settings: GatewaySettings, process: Process) -> RulesFeed:
    """The rules of the gate, followed from now on; without order_svc the settings hold."""
    # A channel of its own: its balancing asks for the health of this service.
    channel: grpc.aio.Channel = await process.enter(
        open_channel(
            settings.order_target, service=GATE_RULES, mesh=settings.mesh_tls(), breaker=False
        )
    )
    feed = RulesFeed(gate_pb2_grpc.GateRulesServiceStub(channel))
    await process.spawn("gate rules", feed.run())
    return feed


def build_admission(settings: GatewaySettings, keys: KeySet, rules: RulesFeed) -> Admission:
    """The buckets and the identity, by the rules in force from now on."""

    def buckets(name: str) -> Buckets:
        rate_per_s, burst = limits_of(settings, name)
        return Buckets(
            name,
            rate_per_s=rate_per_s,
            burst=burst,
            tracked_max=settings.gateway_buckets_max,
            on_refusal=count_refusals(name),
        )

    all_calls, by_address, by_user = buckets("all"), buckets("ip"), buckets("user")
    orders_by_address, callbacks_by_address = buckets("ip_orders"), buckets("ip_callbacks")
    issues_by_address, issues_by_user = buckets("ip_issue"), buckets("issue")
    every_kind = (
        *(all_calls, by_address, orders_by_address, callbacks_by_address, by_user),
        *(issues_by_address, issues_by_user),
    )
    watch_buckets(every_kind)
    rules.on_change(BucketLimits(settings, every_kind).take_rules)
    admission = Admission(
        Identity(
            keys,
            issuer=settings.gateway_jwt_issuer,
            audience=settings.gateway_jwt_audience,
            remembered_max=settings.gateway_identities_max,
            reader=settings.claim_reader(),
        ),
        ClientAddresses(
            trusted=parse_networks(settings.gateway_trusted_proxies),
            exempt=parse_networks(settings.gateway_ip_exempt),
            hops_max=settings.gateway_trusted_hops,
            remembered_max=settings.gateway_addresses_max,
        ),
        all_calls=all_calls,
        by_address=by_address,
        orders_by_address=orders_by_address,
        callbacks_by_address=callbacks_by_address,
        by_user=by_user,
        issues_by_address=issues_by_address,
        issues_by_user=issues_by_user,
    )
    rules.on_change(admission.take_rules)
    return admission


async def open_shared_redis(
    settings: GatewaySettings, process: Process
) -> "redis.asyncio.Redis | None":
    """The Redis that all gateways share; None if there is none."""
    if not settings.gateway_redis_url.get_secret_value():
        return None
    files = settings.own_redis_files()
    client: redis.asyncio.Redis = await process.enter(
        open_redis(
            RedisSettings(
                redis_url=settings.gateway_redis_url,
                redis_cluster=settings.redis_cluster,
                redis_tls_ca=files.ca,
                redis_tls_certificate=files.certificate,
                redis_tls_key=files.key,
                redis_timeout_s=settings.gateway_redis_timeout_s,
                redis_connections_max=settings.gateway_batches_in_flight_max,
            )
        )
    )
    return client


def build_shared(
    settings: GatewaySettings, client: "redis.asyncio.Redis | None", rules: RulesFeed
) -> Shared | None:
    """The buckets of purchase tokens that all gateways share; None without Redis."""
    if client is None:
        return None

    def buckets(name: str) -> SharedBuckets:
        rate_per_s, burst = limits_of(settings, name)
        refused = count_refusals(name)
        return SharedBuckets(name, rate_per_s=rate_per_s, burst=burst, on_refusal=refused)

    by_user, by_address = buckets("issue"), buckets("ip_issue")
    rules.on_change(BucketLimits(settings, (by_user, by_address)).take_rules)
    store = BucketStore(client, timeout_s=settings.gateway_redis_timeout_s)
    return Shared(store, by_user, by_address)


async def open_issuer(
    settings: GatewaySettings,
    process: Process,
    *,
    admission: Admission,
    tokens: PurchaseTokens,
    assessor: Assessor,
    rules: RulesFeed,
    cap: UnpaidCap,
) -> TokenIssuer:
    """What issues purchase tokens, with the gate: of sales that look at risk, and of the cap."""
    client = await open_shared_redis(settings, process)
    challenges = await process.enter(
        open_challenges(
            settings,
            parse_keys(settings.gateway_token_keys.get_secret_value()),
            client,
            redis_timeout_s=settings.gateway_redis_timeout_s,
        )
    )
    return TokenIssuer(
        admission,
        tokens,
        TokenGate(assessor, challenges, cap),
        token_ttl_s=settings.gateway_token_ttl_s,
        shared=build_shared(settings, client, rules),
        batch_max=settings.gateway_batch_max,
        in_flight_max=settings.gateway_batches_in_flight_max,
        waiting_max=settings.gateway_waiting_max,
        timeout_s=settings.gateway_redis_timeout_s,
    )
