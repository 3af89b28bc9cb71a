"""What the order service is put together from: stores, services, and who may call them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from order_svc.audit.audit import SaleAuditor
from order_svc.db.database import Database
from order_svc.gate.feed import GateRulesFeed
from order_svc.gate.repository import GateRepository
from order_svc.hoarding.buyers import BuyerHistories
from order_svc.hoarding.review import OrderVoids, SaleReviewer
from order_svc.intake.barrier import ConsumerBarrier
from order_svc.intake.dead_letter_queue import open_dead_letter_queue
from order_svc.orders.projection import OrderProjection
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import OrderRepository
from order_svc.payments.repository import PaymentRepository
from order_svc.rpc.admin import OrderAdminService
from order_svc.rpc.audit import AuditHandlers
from order_svc.rpc.buyer_history import BuyerHistoryService
from order_svc.rpc.dead_letters import DeadLetterHandlers
from order_svc.rpc.gate import GateRulesService
from order_svc.rpc.operators import SETTING, ClosedGate, Gate, OpenGate
from order_svc.rpc.orders import OrderHandlers
from order_svc.rpc.payments import PaymentHandlers
from order_svc.rpc.recovery import RecoveryHandlers
from order_svc.rpc.restore import RestoreHandlers
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.sale_review import SaleReviewService
from order_svc.rpc.sales import SaleHandlers
from order_svc.rpc.service import OrderService
from order_svc.rpc.stories import StoryHandlers
from order_svc.rpc.webhooks import WebhookHandlers
from order_svc.sales.generation import StoreGeneration
from order_svc.sales.recovery import SaleRecovery
from order_svc.sales.repository import SaleRepository
from order_svc.sales.shadow import ShadowSales
from order_svc.settings import OrderSettings
from order_svc.stories.repository import StoryRepository
from order_svc.webhooks.delivery_admin import DeliveryAdmin
from seckill.runtime.clock import Clock
from seckill.runtime.delay import DelaySet
from seckill.runtime.jwks import KeySet
from seckill.runtime.process import Process
from seckill.runtime.redis_reads import open_reads
from seckill.runtime.roles import OPERATOR_ROLE, SERVICE_ROLE, RoleGate

if TYPE_CHECKING:
    import redis.asyncio

log = structlog.get_logger()


@dataclass(frozen=True)
class Stores:
    """The stores, open, and the clock."""

    redis: "redis.asyncio.Redis"
    database: Database
    clock: Clock


@dataclass(frozen=True)
class Gates:
    """Who may call.

    Attributes:
        operators: OrderAdminService.
        shop: ConfirmPayment; the shop's services, and operators.
        sales: what changes sales; operators.
    """

    operators: Gate
    shop: Gate
    sales: Gate


async def open_reader(settings: OrderSettings, process: Process, stores: Stores) -> OrderReader:
    """Return what reads orders for callers, and keeps the projection in step from now on."""
    reads = await process.enter(open_reads(stores.redis, settings))
    projection = OrderProjection(stores.redis, settings, reads)
    reader = OrderReader(OrderRepository(stores.database), projection)
    await process.spawn("outdated orders", reader.run())
    return reader


def build_service(
    settings: OrderSettings,
    stores: Stores,
    *,
    reader: OrderReader,
    payments: PaymentHandlers,
    changes: SaleChangeHandlers,
    shop: Gate,
    operators: Gate,
) -> OrderService:
    """Return what buyers, the shop and the other services call."""
    orders = OrderRepository(stores.database)
    return OrderService(
        sales=SaleHandlers(
            SaleRepository(stores.database),
            ShadowSales(
                stores.database,
                delays=DelaySet(stores.redis, shards=settings.delay_shards),
                projection=OrderProjection(stores.redis, settings),
            ),
            operators=operators,
        ),
        orders=OrderHandlers(settings=settings, orders=orders, reader=reader, clock=stores.clock),
        shop=shop,
        payments=payments,
        restore=RestoreHandlers(orders, reader),
        recovery=RecoveryHandlers(
            SaleRecovery(stores.database),
            StoreGeneration(stores.database),
            ConsumerBarrier(settings),
            timeout_s=settings.order_await_timeout_s,
        ),
        changes=changes,
    )


def build_payments(settings: OrderSettings, stores: Stores, reader: OrderReader) -> PaymentHandlers:
    """Return the handlers of payments, which both services use."""
    return PaymentHandlers(
        settings=settings,
        payments=PaymentRepository(stores.database),
        reader=reader,
        clock=stores.clock,
    )


async def build_admin_service(
    settings: OrderSettings,
    process: Process,
    stores: Stores,
    *,
    payments: PaymentHandlers,
    changes: SaleChangeHandlers,
    operators: Gate,
) -> OrderAdminService:
    """Return what operators call."""
    auditor = SaleAuditor(stores.database, orders_max=settings.order_audit_orders_max)
    queue = await process.enter(open_dead_letter_queue(settings, stores.clock))
    return OrderAdminService(
        gate=operators,
        audit=AuditHandlers(auditor),
        dead_letters=DeadLetterHandlers(queue),
        webhooks=WebhookHandlers(DeliveryAdmin(stores.database)),
        payments=payments,
        changes=changes,
        stories=StoryHandlers(StoryRepository(stores.database), queue),
    )


async def open_gate_rules(
    settings: OrderSettings, process: Process, stores: Stores, operators: Gate
) -> GateRulesService:
    """Return the rules of the gate, which are read from now on."""
    feed = GateRulesFeed(
        stores.database,
        interval_s=settings.order_gate_interval_s,
        stale_s=settings.order_gate_stale_s,
        streams_max=settings.order_gate_streams_max,
    )
    await process.spawn("gate rules", feed.run())
    rules = GateRepository(
        stores.database,
        entries_max=settings.order_gate_entries_max,
        user_agents_max=settings.order_gate_user_agents_max,
        policies_max=settings.order_gate_policies_max,
    )
    return GateRulesService(rules, feed, operators=operators)


async def open_histories(
    settings: OrderSettings, process: Process, stores: Stores
) -> BuyerHistoryService:
    """Return what gateways ask about buyers; old sightings are forgotten from now on."""
    histories = BuyerHistories(stores.database)
    kept = timedelta(days=settings.order_sightings_kept_days)
    await process.spawn("sightings", histories.keep_pruned(kept=kept))
    return BuyerHistoryService(histories)


def build_review(
    settings: OrderSettings, stores: Stores, *, reader: OrderReader, operators: Gate
) -> SaleReviewService:
    """Return what operators call after a sale."""
    reviewer = SaleReviewer(stores.database, orders_max=settings.order_audit_orders_max)
    return SaleReviewService(reviewer, OrderVoids(stores.database), reader, operators=operators)


async def open_gates(settings: OrderSettings, process: Process) -> Gates:
    """Return who decides by tokens who may call; keys are reloaded from now on."""
    development = settings.profile == "development"
    if not settings.order_operator_jwks:
        without_keys: Gate = OpenGate() if development else ClosedGate()
        return Gates(operators=ClosedGate(), shop=without_keys, sales=without_keys)
    keys = KeySet(
        settings.order_operator_jwks,
        allow_symmetric=development,
        reload_interval_s=settings.order_operator_jwks_reload_s,
    )
    try:
        await keys.load()
    except ValueError as error:
        # Buyers can do without operators: the service starts, and admits them once it has keys.
        log.error("operator keys not loaded", error=str(error))  # noqa: TRY400 - no trace needed
    await process.spawn("operator keys", keys.keep_loaded())

    def gate(*roles: str) -> RoleGate:
        return RoleGate(
            keys,
            *roles,
            issuer=settings.order_operator_jwt_issuer,
            audience=settings.order_operator_jwt_audience,
            setting=SETTING,
        )

    operators = gate(OPERATOR_ROLE)
    return Gates(operators, shop=gate(SERVICE_ROLE, OPERATOR_ROLE), sales=operators)
