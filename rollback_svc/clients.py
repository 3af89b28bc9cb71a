"""The services that rollback_svc calls: OrderService decides, InventoryService returns units."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
from google.protobuf.duration_pb2 import Duration

from seckill.errors import SeckillError
from seckill.status import from_rpc_error, reason_name, reason_of
from seckill.v1 import errors_pb2, inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc

# Statuses that concern the service as a whole, so that asking for the next sale is of no use.
_SERVICE_WIDE = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
)
_SALE_NOT_LOADED = reason_name(errors_pb2.ERROR_REASON_SALE_NOT_LOADED)


class SaleRefused(SeckillError):
    """InventoryService cannot return units of this sale now."""


@contextmanager
def _faults(service: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service=service) from error


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


class OrderClient:
    """OrderService as rollback_svc needs it. Every call raises SeckillError if it fails."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float, lease_s: float) -> None:
        """`timeout_s`: of each call; `lease_s`: how long the units of an order are ours to return.

        `channel` must not repeat these calls by itself: a claim whose answer is lost is lost.
        """
        self._stub = order_pb2_grpc.OrderServiceStub(channel)
        self._timeout_s = timeout_s
        self._lease = _duration(lease_s)

    async def cancel_expired(self, order_nos: Sequence[str]) -> order_pb2.CancelExpiredResponse:
        """Cancel those that have expired by the database's clock, and claim their units.

        Repeating changes nothing.
        """
        request = order_pb2.CancelExpiredRequest(order_nos=order_nos, lease=self._lease)
        with _faults("order"):
            return await self._stub.CancelExpired(request, timeout=self._timeout_s)

    async def list_expired(self, limit: int, *, overdue_s: float) -> Sequence[str]:
        """Return the numbers of up to `limit` pending orders overdue by `overdue_s`."""
        request = order_pb2.ListExpiredRequest(page_size=limit, overdue=_duration(overdue_s))
        with _faults("order"):
            response = await self._stub.ListExpired(request, timeout=self._timeout_s)
        return response.order_nos

    async def claim_unrestored(self, limit: int) -> Sequence[order_pb2.UnrestoredOrder]:
        """Claim up to `limit` cancelled, rejected or refunded orders whose units are out."""
        request = order_pb2.ClaimUnrestoredRequest(page_size=limit, lease=self._lease)
        with _faults("order"):
            response = await self._stub.ClaimUnrestored(request, timeout=self._timeout_s)
        return response.orders

    async def mark_restored(self, order_nos: Sequence[str]) -> int:
        """Note that their units are back; return how many were not noted before."""
        request = order_pb2.MarkRestoredRequest(order_nos=order_nos)
        with _faults("order"):
            response = await self._stub.MarkRestored(request, timeout=self._timeout_s)
        return response.marked


class InventoryClient:
    """InventoryService as rollback_svc needs it."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        self._timeout_s = timeout_s

    async def release(self, sku: str, orders: Sequence[order_pb2.UnrestoredOrder]) -> int:
        """Return the units of `orders`, all of one sale; repeating changes nothing.

        Returns:
            Units returned by this call: 0 if all were returned before.

        Raises:
            SaleRefused: this sale's units cannot be returned now, e.g. it is not loaded.
            SeckillError: the service does not answer.
        """
        request = inventory_pb2.ReleaseRequest(
            sku=sku,
            items=[
                inventory_pb2.ReleaseItem(
                    order_no=order.order_no, user_id=order.user_id, rejected=order.rejected
                )
                for order in orders
            ],
        )
        try:
            response = await self._stub.Release(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _SERVICE_WIDE or reason_of(error) == _SALE_NOT_LOADED:
                raise SaleRefused(error.details(), metadata={"sku": sku}) from error
            raise from_rpc_error(error, service="inventory") from error
        return sum(response.released_units)
