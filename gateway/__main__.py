"""`python -m gateway`: the wiring, by hand."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import grpc
import structlog

from gateway.admin import GatewayAdminServicer
from gateway.admission import Admission
from gateway.admission_ratio import AdmissionRatio
from gateway.front.call import BatchedMethod
from gateway.front.grpcio import grpcio_front
from gateway.front.load import TimedAdmission
from gateway.front.tls import Certificate
from gateway.handlers import BatchedMethods
from gateway.hoarding import Hoarding, admission_multiple, open_hoarding
from gateway.issue.issuer import TokenIssuer
from gateway.load_reports import LoadReports
from gateway.metrics import watch_load
from gateway.orders import Orders
from gateway.preflight import build_preflight
from gateway.reservations import BatchReserve, Reservations
from gateway.risk.opening import build_assessor
from gateway.rules_feed import RulesFeed
from gateway.sale_pages import SalePages
from gateway.sales import Sales
from gateway.service_name import SERVICE
from gateway.servicer import UnbatchedServicer
from gateway.settings import GatewaySettings
from gateway.watches import Watches
from gateway.wiring import build_admission, open_issuer, open_rules
from seckill.runtime.channel import open_channel
from seckill.runtime.jwks import KeySet
from seckill.runtime.preflight.service import PREFLIGHT_SERVICE, PreflightServicer
from seckill.runtime.process import Process, run
from seckill.runtime.purchase_tokens import PurchaseTokens, parse_keys
from seckill.runtime.roles import OPERATOR_ROLE, RoleGate
from seckill.runtime.server import Health
from seckill.runtime.telemetry import server_metrics
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2_grpc

INVENTORY = "seckill.v1.InventoryService"
ORDER = "seckill.v1.OrderService"

log = structlog.get_logger()


def open_front(
    settings: GatewaySettings,
    methods: tuple[BatchedMethod, ...],
    servicers: Iterable[UnbatchedServicer | GatewayAdminServicer | PreflightServicer],
    health: Health,
) -> AbstractAsyncContextManager[int]:
    """The front that the settings name; its context is the port."""
    admission = TimedAdmission(
        calls_max=settings.gateway_calls_max,
        wait_share=settings.gateway_wait_share,
        wait_max_s=settings.gateway_wait_max_s,
        ahead_s=settings.gateway_work_ahead_s,
    )
    watch_load(admission)
    reports = LoadReports(admission)

    def register(server: grpc.aio.Server) -> None:
        for servicer in (*servicers, reports):
            servicer.register(server)

    for method in methods:
        server_metrics.method(method.path, streaming=False).declare_codes()
    certificate = None
    if settings.gateway_tls_certificate:
        speaks_json = settings.gateway_json == "on" and settings.gateway_front == "http2"
        certificate = Certificate(
            settings.gateway_tls_certificate, settings.gateway_tls_key, http_1=speaks_json
        )
    if settings.gateway_front == "grpcio":
        return grpcio_front(
            settings.gateway_listen,
            methods,
            register,
            settings=settings,
            admission=admission,
            credentials=None if certificate is None else certificate.credentials(),
            health_state=health,
            services=[SERVICE, PREFLIGHT_SERVICE],
        )
    # Imported here: the other front serves platforms that have no wheel of ngh2.
    from gateway.front.serving import http2_front  # noqa: PLC0415

    return http2_front(
        settings.gateway_listen,
        methods,
        register,
        settings=settings,
        admission=admission,
        limits=settings.front_limits(),
        speaks_json=settings.gateway_json == "on",
        certificate=certificate,
        health_state=health,
        services=[SERVICE, PREFLIGHT_SERVICE],
    )


async def open_keys(settings: GatewaySettings, process: Process) -> KeySet:
    """The issuer's keys, loaded, and reloaded from now on. Raises ValueError if they are bad."""
    keys = KeySet(
        settings.gateway_jwks,
        allow_symmetric=settings.profile == "development",
        reload_interval_s=settings.gateway_jwks_reload_s,
    )
    await keys.load()
    await process.spawn("keys", keys.keep_loaded())
    return keys


async def open_inventory(
    settings: GatewaySettings, process: Process
) -> "inventory_pb2_grpc.InventoryServiceAsyncStub":
    """The channel to inventory_svc."""
    channel: grpc.aio.Channel = await process.enter(
        open_channel(
            settings.inventory_target,
            service=INVENTORY,
            mesh=settings.mesh_tls(),
            reads=["GetSale", "ListSales"],
        )
    )
    return inventory_pb2_grpc.InventoryServiceStub(channel)


async def open_batch_reserve(
    settings: GatewaySettings,
    process: Process,
    inventory: "inventory_pb2_grpc.InventoryServiceAsyncStub",
) -> BatchReserve:
    """How inventory_svc is asked for units: by the channel that the settings name."""
    if settings.gateway_inventory_channel == "grpcio":
        return inventory.BatchReserve
    # Imported here, as the front is.
    from seckill.runtime.http2.channel import open_http2_channel  # noqa: PLC0415

    channel = await process.enter(
        open_http2_channel(settings.inventory_target, service=INVENTORY, mesh=settings.mesh_tls())
    )
    return channel.unary(f"/{INVENTORY}/BatchReserve", inventory_pb2.BatchReserveResponse)


async def open_orders(settings: GatewaySettings, process: Process) -> Orders:
    """The channel to order_svc, and polling over it."""
    channel: grpc.aio.Channel = await process.enter(
        open_channel(
            settings.order_target, service=ORDER, mesh=settings.mesh_tls(), reads=["BatchGetOrders"]
        )
    )
    return Orders(
        order_pb2_grpc.OrderServiceStub(channel),
        batch_max=settings.gateway_batch_max,
        in_flight_max=settings.gateway_batches_in_flight_max,
        waiting_max=settings.gateway_waiting_max,
        timeout_s=settings.gateway_order_timeout_s,
        arrival_max_s=settings.order_arrival_max_s,
    )


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers."""

    port: int
    health: Health
    sales: Sales
    rules: RulesFeed
    admission: Admission


async def open_gateway(settings: GatewaySettings, process: Process) -> Gateway:
    """Open everything, the front last."""
    keys = await open_keys(settings, process)
    inventory = await open_inventory(settings, process)
    orders = await open_orders(settings, process)
    sales = Sales(
        inventory,
        cache_ttl_s=settings.gateway_sale_cache_ttl_s,
        lookups_max=settings.gateway_lookups_max,
        read_unpaid=orders.unpaid_units,
    )
    await process.spawn("sales", sales.watch())
    rules = await open_rules(settings, process)
    admission = build_admission(settings, keys, rules)
    tokens = PurchaseTokens(
        parse_keys(settings.gateway_token_keys.get_secret_value()),
        # Load generators sign for hours in advance.
        life_max_s=settings.gateway_token_ttl_s if settings.profile == "production" else None,
    )
    hoarding = await open_hoarding(
        settings,
        process,
        order_target=settings.order_target,
        mesh=settings.mesh_tls(),
        admission=admission,
        rules=rules,
    )
    assessor = build_assessor(settings, hoarding.histories)
    batched = build_batched_methods(
        settings,
        admission=admission,
        keys=keys,
        tokens=tokens,
        issuer=await open_issuer(
            settings,
            process,
            admission=admission,
            tokens=tokens,
            assessor=assessor,
            rules=rules,
            cap=hoarding.cap,
        ),
        sales=sales,
        rules=rules,
        hoarding=hoarding,
        batch_reserve=await open_batch_reserve(settings, process, inventory),
        orders=orders,
    )
    unbatched = UnbatchedServicer(
        admission=admission,
        keys=keys,
        pages=SalePages(inventory, timeout_s=settings.gateway_inventory_timeout_s),
        orders=orders,
        watches=Watches(
            buyer_max=settings.gateway_watches_buyer_max,
            order_max=settings.gateway_watches_order_max,
            address_max=settings.gateway_watches_ip_max,
        ),
        sandbox_payments=settings.gateway_sandbox_payments,
    )
    operators = RoleGate(
        keys,
        OPERATOR_ROLE,
        issuer=settings.gateway_jwt_issuer,
        audience=settings.gateway_jwt_audience,
        setting="SECKILL_GATEWAY_JWKS",
    )
    admin = GatewayAdminServicer(
        operators=operators,
        admission=admission,
        sales=sales,
        rules=rules,
        assessor=assessor,
    )
    preflight = build_preflight(
        settings, sales=sales, rules=rules, operators=operators, admission=admission
    )
    health = Health([SERVICE, PREFLIGHT_SERVICE])
    servicers = (unbatched, admin, preflight)
    port = await process.enter(open_front(settings, batched.methods(), servicers, health))
    return Gateway(port, health, sales, rules, admission)


def build_batched_methods(
    settings: GatewaySettings,
    *,
    admission: Admission,
    keys: KeySet,
    tokens: PurchaseTokens,
    issuer: TokenIssuer,
    sales: Sales,
    rules: RulesFeed,
    hoarding: Hoarding,
    batch_reserve: BatchReserve,
    orders: Orders,
) -> BatchedMethods:
    """The handlers, with what only they use."""
    return BatchedMethods(
        admission=admission,
        keys=keys,
        tokens=tokens,
        issuer=issuer,
        sales=sales,
        rules=rules,
        reservations=Reservations(
            batch_reserve,
            sales,
            ratio=AdmissionRatio(
                remaining=sales.remaining,
                multiple=admission_multiple(settings, rules),
            ),
            on_reserved=hoarding.on_reserved,
            batch_max=settings.gateway_batch_max,
            in_flight_max=settings.gateway_batches_in_flight_max,
            waiting_max=settings.gateway_waiting_max,
            timeout_s=settings.gateway_inventory_timeout_s,
        ),
        orders=orders,
    )


async def serve(settings: GatewaySettings, process: Process) -> None:
    """Run until the process is told to stop."""
    gateway = await open_gateway(settings, process)
    log.info("serving", port=gateway.port, front=settings.gateway_front)
    await process.until_stopped(gateway.health, {"sales": gateway.sales.check_seen})


if __name__ == "__main__":
    run("gateway", GatewaySettings, serve)
