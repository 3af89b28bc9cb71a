"""OrderService: every RPC of the contract, and the group that handles it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from order_svc.rpc.operators import Gate
from order_svc.rpc.orders import OrderHandlers
from order_svc.rpc.payments import PaymentHandlers
from order_svc.rpc.recovery import RecoveryHandlers
from order_svc.rpc.restore import RestoreHandlers
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.sales import SaleHandlers
from seckill.v1 import order_pb2 as pb
from seckill.v1.order_pb2_grpc import OrderServiceServicer

SERVICE = "seckill.v1.OrderService"
Context = grpc.aio.ServicerContext[Any, Any]


class OrderService(OrderServiceServicer):
    """Hands each call to the group that handles it."""

    def __init__(
        self,
        *,
        sales: SaleHandlers,
        orders: OrderHandlers,
        shop: Gate,
        payments: PaymentHandlers,
        restore: RestoreHandlers,
        recovery: RecoveryHandlers,
        changes: SaleChangeHandlers,
    ) -> None:
        """`shop`: decides who may confirm payments."""
        self._sales = sales
        self._shop = shop
        self._payments = payments
        self._orders = orders
        self._restore = restore
        self._recovery = recovery
        self._changes = changes

    async def RegisterSale(
        self, request: pb.RegisterSaleRequest, _context: Context
    ) -> pb.RegisterSaleResponse:
        return await self._sales.register(request)

    async def GetSaleTotals(
        self, request: pb.GetSaleTotalsRequest, _context: Context
    ) -> pb.GetSaleTotalsResponse:
        return await self._sales.totals(request)

    async def CheckSaleSettled(
        self, request: pb.CheckSaleSettledRequest, context: Context
    ) -> pb.CheckSaleSettledResponse:
        return await self._sales.check_settled(request, context)

    async def RecordArchive(
        self, request: pb.RecordArchiveRequest, context: Context
    ) -> pb.RecordArchiveResponse:
        return await self._sales.archive(request, context)

    async def RemoveShadowSale(
        self, request: pb.RemoveShadowSaleRequest, context: Context
    ) -> pb.RemoveShadowSaleResponse:
        return await self._sales.remove_shadow(request, context)

    async def GetUnpaidUnits(
        self, request: pb.GetUnpaidUnitsRequest, _context: Context
    ) -> pb.GetUnpaidUnitsResponse:
        return await self._sales.unpaid(request)

    async def GetOrder(self, request: pb.GetOrderRequest, _context: Context) -> pb.GetOrderResponse:
        return await self._orders.get(request)

    async def BatchGetOrders(
        self, request: pb.BatchGetOrdersRequest, _context: Context
    ) -> pb.BatchGetOrdersResponse:
        return await self._orders.batch_get(request)

    async def ListOrders(
        self, request: pb.ListOrdersRequest, _context: Context
    ) -> pb.ListOrdersResponse:
        return await self._orders.list(request)

    async def WatchOrder(
        self, request: pb.WatchOrderRequest, _context: Context
    ) -> AsyncIterator[pb.WatchOrderResponse]:
        async for response in self._orders.watch(request):
            yield response

    async def PayOrder(self, request: pb.PayOrderRequest, _context: Context) -> pb.PayOrderResponse:
        return await self._payments.pay(request)

    async def ConfirmPayment(
        self, request: pb.ConfirmPaymentRequest, context: Context
    ) -> pb.ConfirmPaymentResponse:
        await self._shop.admit(context)
        return await self._payments.confirm(request)

    async def ReceivePaymentCallback(
        self, request: pb.ReceivePaymentCallbackRequest, _context: Context
    ) -> pb.ReceivePaymentCallbackResponse:
        return await self._payments.receive(request)

    async def CancelOrder(
        self, request: pb.CancelOrderRequest, _context: Context
    ) -> pb.CancelOrderResponse:
        return await self._orders.cancel(request)

    async def RefundOrder(
        self, request: pb.RefundOrderRequest, _context: Context
    ) -> pb.RefundOrderResponse:
        return await self._orders.refund(request)

    async def CancelExpired(
        self, request: pb.CancelExpiredRequest, _context: Context
    ) -> pb.CancelExpiredResponse:
        return await self._restore.cancel_expired(request)

    async def ListUnrestored(
        self, request: pb.ListUnrestoredRequest, _context: Context
    ) -> pb.ListUnrestoredResponse:
        return await self._restore.list_unrestored(request)

    async def ListExpired(
        self, request: pb.ListExpiredRequest, _context: Context
    ) -> pb.ListExpiredResponse:
        return await self._restore.list_expired(request)

    async def ClaimUnrestored(
        self, request: pb.ClaimUnrestoredRequest, _context: Context
    ) -> pb.ClaimUnrestoredResponse:
        return await self._restore.claim_unrestored(request)

    async def MarkRestored(
        self, request: pb.MarkRestoredRequest, _context: Context
    ) -> pb.MarkRestoredResponse:
        return await self._restore.mark_restored(request)

    async def RecordSale(
        self, request: pb.RecordSaleRequest, context: Context
    ) -> pb.RecordSaleResponse:
        return await self._changes.record_sale(request, context)

    async def AddUnits(self, request: pb.AddUnitsRequest, context: Context) -> pb.AddUnitsResponse:
        return await self._changes.add_units(request, context)

    async def ChangeTerms(
        self, request: pb.ChangeTermsRequest, context: Context
    ) -> pb.ChangeTermsResponse:
        return await self._changes.change_terms(request, context)

    async def GetSaleRecord(
        self, request: pb.GetSaleRecordRequest, _context: Context
    ) -> pb.GetSaleRecordResponse:
        return await self._recovery.sale_record(request)

    async def ListOpenSales(
        self, request: pb.ListOpenSalesRequest, _context: Context
    ) -> pb.ListOpenSalesResponse:
        return await self._recovery.open_sales(request)

    async def AwaitConsumed(
        self, request: pb.AwaitConsumedRequest, context: Context
    ) -> pb.AwaitConsumedResponse:
        return await self._recovery.await_consumed(request, context)

    async def BeginRebuild(
        self, request: pb.BeginRebuildRequest, context: Context
    ) -> pb.BeginRebuildResponse:
        return await self._recovery.begin_rebuild(request, context)

    async def SnapshotSale(
        self, request: pb.SnapshotSaleRequest, _context: Context
    ) -> AsyncIterator[pb.SnapshotSaleResponse]:
        async for response in self._recovery.snapshot(request):
            yield response

    async def ConfirmStore(
        self, request: pb.ConfirmStoreRequest, _context: Context
    ) -> pb.ConfirmStoreResponse:
        return await self._recovery.confirm_store(request)
