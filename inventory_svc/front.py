"""The front of inventory_svc: which methods it serves itself, and what callers may take of it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from inventory_svc import metrics
from inventory_svc.rpc.attempts import AttemptHandlers
from inventory_svc.settings import InventorySettings
from seckill.front.limits import FrontLimits
from seckill.runtime.server import Health, Register, serving
from seckill.v1 import inventory_pb2

SERVICE = "seckill.v1.InventoryService"


def front_limits(settings: InventorySettings) -> FrontLimits:
    """Return what callers may take of the http2 front.

    They are services of the mesh, few and ours: these bounds are for their faults. The numbers are
    the defaults of the gateway's settings of the same names, but for calls at once on a connection.
    """
    return FrontLimits(
        connections_max=10_000,
        # A gateway has two batches under way for each sku that is being bought.
        streams_max=2_048,
        resets_per_s_max=5_000,
        half_open_max=2_048,
        request_timeout_s=10.0,
        handshake_timeout_s=5.0,
        idle_timeout_s=120.0,
        unread_timeout_s=20.0,
        unread_bytes_max=4 * 1024 * 1024,
        header_bytes_max=16 * 1024,
        passed_streams_max=4_096,
        passed_bytes_max=64 * 1024 * 1024,
        age_max_s=settings.connection_age_max_s,
        age_grace_s=settings.connection_grace_s,
        drain_timeout_s=settings.drain_timeout_s,
    )


def open_front(
    settings: InventorySettings,
    attempts: AttemptHandlers,
    register: Register,
    *,
    health: Health,
    services: Sequence[str],
) -> AbstractAsyncContextManager[int]:
    """Return the front that the settings name; its context is the port.

    Args:
        attempts: handles what the http2 front serves itself.
        register: adds the servicers of all methods.
        services: full names, for reflection.
    """
    if settings.inventory_front == "grpcio":
        return serving(
            settings.inventory_listen,
            register,
            settings=settings,
            health_state=health,
            services=services,
        )
    # Imported here: the other front serves platforms that have no wheel of ngh2.
    from seckill.front.connection_counts import ConnectionCounts  # noqa: PLC0415
    from seckill.front.serving import unary_front  # noqa: PLC0415
    from seckill.front.unary import UnaryMethod  # noqa: PLC0415

    methods = (
        UnaryMethod(
            f"/{SERVICE}/BatchReserve", inventory_pb2.BatchReserveRequest, attempts.reserve_batch
        ),
        UnaryMethod(f"/{SERVICE}/Reserve", inventory_pb2.ReserveRequest, attempts.reserve),
        UnaryMethod(f"/{SERVICE}/Release", inventory_pb2.ReleaseRequest, attempts.release),
    )
    return unary_front(
        settings.inventory_listen,
        methods,
        register,
        settings=settings,
        limits=front_limits(settings),
        metrics=ConnectionCounts(
            metrics.INVENTORY_CONNECTIONS_COUNT, metrics.INVENTORY_CONNECTIONS_CLOSED_TOTAL
        ),
        health_state=health,
        services=services,
    )
