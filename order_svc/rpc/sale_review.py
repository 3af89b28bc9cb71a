"""SaleReviewService: operators see which orders belong together, and void them."""

import re
from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from order_svc.hoarding.clusters import Cluster, Kind, SightedOrder, rank
from order_svc.hoarding.review import VOIDS_MAX, Looks, Meant, OrderVoids, SaleReviewer, meant_by
from order_svc.orders.model import STATES
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import Change
from order_svc.rpc.operators import Gate
from order_svc.rpc.sales import check_sku
from seckill.order_no import made_at_s
from seckill.v1 import hoarding_pb2 as pb
from seckill.v1.hoarding_pb2_grpc import SaleReviewServiceServicer
from seckill.validation import Violations, decode_page_token, encode_page_token, page_size

REVIEW_SERVICE = "seckill.v1.SaleReviewService"
ORDERS_MIN_DEFAULT, ORDERS_MIN_MAX = 3, 1_000
EARLY_DEFAULT_S, EARLY_MAX_S = 0.2, 60.0
REASON_MAX = 500
# Order numbers that a cluster shows.
SHOWN_MAX = 20
CLUSTER_ID = re.compile(r"[a-z]{1,16}(:[0-9A-Za-z]{1,40})?")
# Orders and id of the last cluster of a page.
PLACE = re.compile(r"[0-9]{1,9} [a-z]{1,16}(:[0-9A-Za-z]{1,40})?")
KINDS = {
    Kind.ADDRESS: pb.CLUSTER_KIND_ADDRESS,
    Kind.FINGERPRINT: pb.CLUSTER_KIND_FINGERPRINT,
    Kind.EARLY: pb.CLUSTER_KIND_EARLY,
    Kind.RHYTHM: pb.CLUSTER_KIND_RHYTHM,
}
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class SaleReviewService(SaleReviewServiceServicer):
    """The contract of protos/seckill/v1/hoarding.proto."""

    def __init__(
        self, reviewer: SaleReviewer, voids: OrderVoids, reader: OrderReader, *, operators: Gate
    ) -> None:
        """`operators`: who may call; `reader`: shows buyers what became of their orders."""
        self._reviewer = reviewer
        self._voids = voids
        self._reader = reader
        self._operators = operators

    async def ReviewSale(
        self, request: pb.ReviewSaleRequest, context: Context
    ) -> pb.ReviewSaleResponse:
        await self._operators.admit(context)
        check_sku(request.sku)
        looks = _looks(request.orders_min, request.early if request.HasField("early") else None)
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, PLACE)
        review = await self._reviewer.review(request.sku, looks)
        clusters = review.clusters
        if after:
            orders, _, name = after.partition(" ")
            clusters = [one for one in clusters if rank(one) > (-int(orders), name)]
        page = clusters[:size]
        token = ""
        if len(clusters) > size:
            token = encode_page_token(f"{len(page[-1].orders)} {page[-1].id}")
        return pb.ReviewSaleResponse(
            clusters=map(_cluster, page),
            next_page_token=token,
            order_count=len(review.orders),
            sighted_count=sum(
                order.address is not None or order.fingerprint is not None
                for order in review.orders
            ),
        )

    async def VoidOrders(
        self, request: pb.VoidOrdersRequest, context: Context
    ) -> pb.VoidOrdersResponse:
        operator = await self._operators.admit(context)
        _check_void(request)
        looks = _looks(request.orders_min, request.early if request.HasField("early") else None)
        review = await self._reviewer.review(request.sku, looks)
        meant = Meant(
            frozenset(request.order_nos),
            frozenset(request.user_ids),
            frozenset(request.cluster_ids),
        )
        orders = sorted(meant_by(review, meant), key=_urgency)
        pending = [order for order in orders if order.status == "pending"]
        response = pb.VoidOrdersResponse(remaining_count=max(0, len(pending) - VOIDS_MAX))
        effects = {order.order_no: _effect_on(order) for order in orders[:VOIDS_MAX]}
        states = {order.order_no: STATES[order.status] for order in orders}
        if pending and not request.dry_run:
            numbers = [order.order_no for order in pending[:VOIDS_MAX]]
            voided, rows = await self._voids.void(
                request.sku, numbers, operator=operator, reason=request.reason
            )
            changes = [Change(row, changed=row["order_no"] in voided) for row in rows]
            await self._reader.publish(changes)
            log.info("orders voided", sku=request.sku, count=len(voided), operator=operator)
            for row in rows:
                states[row["order_no"]] = STATES[row["status"]]
                effects[row["order_no"]] = _effect_after(row["order_no"] in voided, row["status"])
        for order in orders[:VOIDS_MAX]:
            response.orders.add(
                order_no=order.order_no,
                user_id=order.user_id,
                quantity=order.quantity,
                effect=effects[order.order_no],
                state=states[order.order_no],
            )
        found = {order.order_no for order in orders}
        for number in sorted(meant.order_nos - found):
            response.orders.add(order_no=number, effect=pb.VOID_EFFECT_NOT_FOUND)
        return response


def _urgency(order: SightedOrder) -> tuple[int, str]:
    """Those that can be voided first, then those that need a refund."""
    return {"pending": 0, "paid": 1}.get(order.status, 2), order.order_no


def _effect_on(order: SightedOrder) -> pb.VoidEffect.ValueType:
    return _effect_after(order.status == "pending", order.status)


def _effect_after(voided: bool, status: str) -> pb.VoidEffect.ValueType:
    if voided:
        return pb.VOID_EFFECT_VOIDED
    return pb.VOID_EFFECT_NEEDS_REFUND if status == "paid" else pb.VOID_EFFECT_ENDED


def _looks(orders_min: int, early: Duration | None) -> Looks:
    """Return what makes a cluster. Raises InvalidField."""
    violations = Violations()
    if orders_min:
        violations.between("orders_min", orders_min, 2, ORDERS_MIN_MAX)
    if early is not None:
        violations.duration("early", early, 0.001, EARLY_MAX_S)
    violations.check()
    early_s = EARLY_DEFAULT_S if early is None else early.ToNanoseconds() / 1e9
    return Looks(orders_min or ORDERS_MIN_DEFAULT, early_s)


def _check_void(request: pb.VoidOrdersRequest) -> None:
    violations = Violations()
    violations.sku("sku", request.sku)
    named = len(request.order_nos) + len(request.user_ids) + len(request.cluster_ids)
    if not 1 <= named <= VOIDS_MAX:
        violations.add(
            "order_nos", f"with user_ids and cluster_ids must have 1 to {VOIDS_MAX} values"
        )
    for index, number in enumerate(request.order_nos):
        violations.order_no(f"order_nos[{index}]", number)
    for index, user_id in enumerate(request.user_ids):
        violations.user_id(f"user_ids[{index}]", user_id)
    for index, cluster_id in enumerate(request.cluster_ids):
        if CLUSTER_ID.fullmatch(cluster_id) is None:
            violations.add(f"cluster_ids[{index}]", "must be the id of a cluster")
    if not request.reason.strip():
        violations.add("reason", "is required")
    violations.text("reason", request.reason, REASON_MAX)
    violations.check()


def _units(orders: Sequence[SightedOrder], status: str) -> int:
    return sum(order.quantity for order in orders if order.status == status)


def _cluster(cluster: Cluster) -> pb.OrderCluster:
    orders = cluster.orders
    shown = pb.OrderCluster(
        id=cluster.id,
        kind=KINDS[cluster.kind],
        order_count=len(orders),
        user_count=len({order.user_id for order in orders}),
        pending_units=_units(orders, "pending"),
        paid_units=_units(orders, "paid"),
        order_nos=[order.order_no for order in orders[:SHOWN_MAX]],
    )
    shown.first_time.FromNanoseconds(int(made_at_s(orders[0].order_no) * 1e9))
    shown.last_time.FromNanoseconds(int(made_at_s(orders[-1].order_no) * 1e9))
    return shown
