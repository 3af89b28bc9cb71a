"""`python -m gateway`: the wiring, by hand."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import grpc
import structlog

from gateway.addresses import ClientAddresses, parse_networks
from gateway.admission import Admission
from gateway.buckets import Buckets
from gateway.front.call import HotMethod
from gateway.front.grpcio import grpcio_front
from gateway.handlers import HotMethods
from gateway.identity import Identity
from gateway.jwks import KeySet
from gateway.metrics import count_refusals, watch_buckets
from gateway.orders import Orders
from gateway.reservations import Reservations
from gateway.sales import Sales
from gateway.service_name import SERVICE
from gateway.servicer import RestServicer
from gateway.settings import GatewaySettings
from gateway.tokens import PurchaseTokens, parse_keys
from seckill.channel import open_channel
from seckill.process import Process, run
from seckill.server import Health, Register
from seckill.v1 import inventory_pb2_grpc, order_pb2_grpc

INVENTORY = "seckill.v1.InventoryService"
ORDER = "seckill.v1.OrderService"

log = structlog.get_logger()


def build_admission(settings: GatewaySettings, keys: KeySet) -> Admission:
    """The buckets and the identity."""

    def buckets(name: str, rate_per_s: float, burst: int) -> Buckets:
        return Buckets(
            name,
            rate_per_s=rate_per_s,
            burst=burst,
            tracked_max=settings.gateway_buckets_max,
            on_refusal=count_refusals(name),
        )

    all_calls = buckets("all", settings.gateway_rate_all, settings.gateway_burst_all)
    by_address = buckets("ip", settings.gateway_rate_ip, settings.gateway_burst_ip)
    by_user = buckets("user", settings.gateway_rate_user, settings.gateway_burst_user)
    watch_buckets((all_calls, by_address, by_user))
    return Admission(
        Identity(
            keys,
            issuer=settings.gateway_jwt_issuer,
            audience=settings.gateway_jwt_audience,
            remembered_max=settings.gateway_identities_max,
        ),
        ClientAddresses(
            trusted=parse_networks(settings.gateway_trusted_proxies),
            exempt=parse_networks(settings.gateway_ip_exempt),
            remembered_max=settings.gateway_buckets_max,
        ),
        all_calls=all_calls,
        by_address=by_address,
        by_user=by_user,
    )


def open_front(
    settings: GatewaySettings,
    methods: tuple[HotMethod, ...],
    register: Register,
    health: Health,
) -> AbstractAsyncContextManager[int]:
    """The front that the settings name; its context is the port."""
    if settings.gateway_front == "grpcio":
        return grpcio_front(
            settings.gateway_listen,
            methods,
            register,
            settings=settings,
            calls_max=settings.gateway_calls_max,
            health_state=health,
            services=[SERVICE],
        )
    # Imported here: the other front serves platforms that have no wheel of it.
    from gateway.front.native import native_front  # noqa: PLC0415

    return native_front(
        settings.gateway_listen,
        methods,
        register,
        settings=settings,
        calls_max=settings.gateway_calls_max,
        io_threads=settings.gateway_io_threads,
        streams_max=settings.gateway_streams_max,
        health_state=health,
        services=[SERVICE],
    )


async def open_keys(settings: GatewaySettings, process: Process) -> KeySet:
    """The issuer's keys, loaded, and reloaded from now on. Raises ValueError where they are bad."""
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
            reads=["GetSale", "ListSales"],
        )
    )
    return inventory_pb2_grpc.InventoryServiceStub(channel)


async def open_orders(settings: GatewaySettings, process: Process) -> Orders:
    """The channel to order_svc, and polling over it."""
    channel: grpc.aio.Channel = await process.enter(
        open_channel(settings.order_target, service=ORDER, reads=["BatchGetOrders"])
    )
    return Orders(
        order_pb2_grpc.OrderServiceStub(channel),
        batch_max=settings.gateway_batch_max,
        under_way_max=settings.gateway_batches_under_way_max,
        waiting_max=settings.gateway_waiting_max,
        timeout_s=settings.gateway_order_timeout_s,
    )


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers."""

    port: int
    health: Health
    sales: Sales


async def open_gateway(settings: GatewaySettings, process: Process) -> Gateway:
    """Open everything, the front last."""
    keys = await open_keys(settings, process)
    inventory = await open_inventory(settings, process)
    orders = await open_orders(settings, process)
    sales = Sales(
        inventory,
        believed_s=settings.gateway_flags_believed_s,
        lookups_max=settings.gateway_lookups_max,
    )
    await process.spawn("sales", sales.watch())
    admission = build_admission(settings, keys)
    hot = build_hot_methods(
        settings, admission=admission, keys=keys, sales=sales, inventory=inventory, orders=orders
    )
    rest = RestServicer(
        admission=admission,
        keys=keys,
        inventory=inventory,
        orders=orders,
        timeout_s=settings.gateway_inventory_timeout_s,
    )
    health = Health([SERVICE])
    port = await process.enter(open_front(settings, hot.methods(), rest.register, health))
    return Gateway(port, health, sales)


def build_hot_methods(
    settings: GatewaySettings,
    *,
    admission: Admission,
    keys: KeySet,
    sales: Sales,
    inventory: "inventory_pb2_grpc.InventoryServiceAsyncStub",
    orders: Orders,
) -> HotMethods:
    """The handlers, with what only they use."""
    return HotMethods(
        admission=admission,
        keys=keys,
        tokens=PurchaseTokens(parse_keys(settings.gateway_token_keys.get_secret_value())),
        sales=sales,
        reservations=Reservations(
            inventory,
            sales,
            batch_max=settings.gateway_batch_max,
            under_way_max=settings.gateway_batches_under_way_max,
            waiting_max=settings.gateway_waiting_max,
            timeout_s=settings.gateway_inventory_timeout_s,
        ),
        orders=orders,
        token_ttl_s=settings.gateway_token_ttl_s,
    )


async def serve(settings: GatewaySettings, process: Process) -> None:
    """Run until the process is told to stop."""
    gateway = await open_gateway(settings, process)
    log.info("serving", port=gateway.port, front=settings.gateway_front)
    await process.until_stopped(gateway.health, {"sales": gateway.sales.check_seen})


if __name__ == "__main__":
    run("gateway", GatewaySettings, serve)
