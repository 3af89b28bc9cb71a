"""OrderAdminService: every RPC of the contract, for operators only."""

from typing import Any

import grpc
import structlog

from order_svc.rpc.audit import AuditHandlers
from order_svc.rpc.dead_letters import DeadLetterHandlers
from order_svc.rpc.operators import Gate
from order_svc.rpc.payments import PaymentHandlers
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.stories import StoryHandlers
from order_svc.rpc.webhooks import WebhookHandlers
from seckill.v1 import order_admin_pb2 as pb
from seckill.v1.order_admin_pb2_grpc import OrderAdminServiceServicer

ADMIN_SERVICE = "seckill.v1.OrderAdminService"
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class OrderAdminService(OrderAdminServiceServicer):
    """Admits operators, and hands each call to the group that handles it.

    What an operator changes is logged with their name.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        audit: AuditHandlers,
        dead_letters: DeadLetterHandlers,
        webhooks: WebhookHandlers,
        payments: PaymentHandlers,
        changes: SaleChangeHandlers,
        stories: StoryHandlers,
    ) -> None:
        self._gate = gate
        self._audit = audit
        self._dead_letters = dead_letters
        self._webhooks = webhooks
        self._payments = payments
        self._changes = changes
        self._stories = stories

    async def AuditSale(
        self, request: pb.AuditSaleRequest, context: Context
    ) -> pb.AuditSaleResponse:
        await self._gate.admit(context)
        return await self._audit.audit(request)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        await self._gate.admit(context)
        return await self._dead_letters.list(request)

    async def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: Context
    ) -> pb.GetDeadLetterResponse:
        await self._gate.admit(context)
        return await self._dead_letters.get(request)

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, context: Context
    ) -> pb.RedriveDeadLettersResponse:
        operator = await self._gate.admit(context)
        response = await self._dead_letters.redrive(request, operator=operator)
        log.info("dead letters redriven", count=response.redriven_count, operator=operator)
        return response

    async def DropDeadLetters(
        self, request: pb.DropDeadLettersRequest, context: Context
    ) -> pb.DropDeadLettersResponse:
        operator = await self._gate.admit(context)
        response = await self._dead_letters.drop(request, operator=operator)
        log.info("dead letters dropped", count=response.dropped_count, operator=operator)
        return response

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: Context
    ) -> pb.ListWebhookDeliveriesResponse:
        await self._gate.admit(context)
        return await self._webhooks.list(request)

    async def GetWebhookDelivery(
        self, request: pb.GetWebhookDeliveryRequest, context: Context
    ) -> pb.GetWebhookDeliveryResponse:
        await self._gate.admit(context)
        return await self._webhooks.get(request)

    async def RedriveWebhookDeliveries(
        self, request: pb.RedriveWebhookDeliveriesRequest, context: Context
    ) -> pb.RedriveWebhookDeliveriesResponse:
        operator = await self._gate.admit(context)
        response = await self._webhooks.redrive(request)
        log.info("webhook deliveries redriven", count=response.redriven_count, operator=operator)
        return response

    async def DropWebhookDeliveries(
        self, request: pb.DropWebhookDeliveriesRequest, context: Context
    ) -> pb.DropWebhookDeliveriesResponse:
        operator = await self._gate.admit(context)
        response = await self._webhooks.drop(request)
        log.info("webhook deliveries dropped", count=response.dropped_count, operator=operator)
        return response

    async def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, context: Context
    ) -> pb.ListWebhookEndpointsResponse:
        del request
        await self._gate.admit(context)
        return await self._webhooks.endpoints()

    async def ResumeWebhookEndpoint(
        self, request: pb.ResumeWebhookEndpointRequest, context: Context
    ) -> pb.ResumeWebhookEndpointResponse:
        operator = await self._gate.admit(context)
        response = await self._webhooks.resume(request)
        log.info("webhook endpoint resumed", endpoint=request.endpoint, operator=operator)
        return response

    async def ListSaleChanges(
        self, request: pb.ListSaleChangesRequest, context: Context
    ) -> pb.ListSaleChangesResponse:
        await self._gate.admit(context)
        return await self._changes.list(request)

    async def ListPayments(
        self, request: pb.ListPaymentsRequest, context: Context
    ) -> pb.ListPaymentsResponse:
        await self._gate.admit(context)
        return await self._payments.list(request)

    async def SettlePayment(
        self, request: pb.SettlePaymentRequest, context: Context
    ) -> pb.SettlePaymentResponse:
        operator = await self._gate.admit(context)
        response = await self._payments.settle(request)
        payment = response.payment
        log.info(
            "payment settled",
            provider=payment.provider,
            payment_id=payment.payment_id,
            operator=operator,
        )
        return response

    async def ExplainOrders(
        self, request: pb.ExplainOrdersRequest, context: Context
    ) -> pb.ExplainOrdersResponse:
        await self._gate.admit(context)
        return await self._stories.explain(request)
