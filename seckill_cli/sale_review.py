"""`seckill sale review` and `seckill sale void`: find orders that belong together; void them."""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias

import typer
from google.protobuf.json_format import MessageToDict

from seckill.v1 import hoarding_pb2 as pb
from seckill.v1 import hoarding_pb2_grpc
from seckill_cli import display
from seckill_cli.display import TextTable, shown, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import OrderOption, channel_to, target_of
from seckill_cli.operators import Metadata, TokenOption, operator_metadata
from seckill_cli.terms import length_s, show_moment

Stub: TypeAlias = "hoarding_pb2_grpc.SaleReviewServiceStub"
console = display.console()
PAGE_SIZE = 100
# Reading a sale of some hundred thousand orders takes seconds.
REVIEW_TIMEOUT_S = 60.0
KIND_PREFIX = "CLUSTER_KIND_"
EFFECTS = {
    pb.VOID_EFFECT_VOIDED: "voided",
    pb.VOID_EFFECT_NEEDS_REFUND: "paid: needs a refund",
    pb.VOID_EFFECT_ENDED: "had ended",
    pb.VOID_EFFECT_NOT_FOUND: "no such order",
}
WOULD = EFFECTS | {pb.VOID_EFFECT_VOIDED: "will be voided"}

SkuArgument = Annotated[str, typer.Argument(help="Sku of the sale.")]
OrdersMinOption = Annotated[int, typer.Option(min=2, max=1_000, help="Orders that make a cluster.")]
EarlyOption = Annotated[
    str, typer.Option(help="How soon after the start an order is early, e.g. 200ms.")
]


def review(
    sku: SkuArgument,
    orders_min: OrdersMinOption = 3,
    early: EarlyOption = "200ms",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many clusters.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a cluster a line.")] = False,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List orders that belong together by address, payment fingerprint or timing.

    None of it proves anything: an office shares an address. Look at them before you void any.
    """
    request = pb.ReviewSaleRequest(sku=sku, orders_min=orders_min, page_size=min(limit, PAGE_SIZE))
    request.early.FromNanoseconds(int(length_s(early, "--early") * 1e9))
    with _reviews(order, token) as (stub, metadata):
        pages = _pages(stub, metadata, request)
        first = next(pages)
        rest = itertools.chain.from_iterable(page.clusters for page in pages)
        found = list(itertools.islice(itertools.chain(first.clusters, rest), limit))
    if as_json:
        for cluster in found:
            sys.stdout.write(json.dumps(_plain(cluster)) + "\n")
        return
    console.print(_clusters(found))
    console.print(
        f"{len(found)} clusters; of {first.order_count} orders it is known of"
        f" {first.sighted_count} from where they came"
    )


def void(
    sku: SkuArgument,
    reason: Annotated[str, typer.Option(help="Why; kept on record, shown by `seckill audit`.")],
    order_no: Annotated[
        list[str] | None, typer.Option("--order-no", help="An order; may be repeated.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="A buyer; may be repeated.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option("--cluster", help="Id of a cluster that `review` lists; may be repeated."),
    ] = None,
    orders_min: OrdersMinOption = 3,
    early: EarlyOption = "200ms",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Cancel unpaid orders of a sale: their units go back on sale, to the next who try.

    Paid orders are listed, and left as they are: pay them back, then `seckill order refund`.
    """
    request = pb.VoidOrdersRequest(
        sku=sku,
        order_nos=order_no or (),
        user_ids=user or (),
        cluster_ids=cluster or (),
        orders_min=orders_min,
        reason=reason,
        dry_run=True,
    )
    if not (order_no or user or cluster):
        raise typer.BadParameter("or --user or --cluster is needed", param_hint="'--order-no'")
    request.early.FromNanoseconds(int(length_s(early, "--early") * 1e9))
    with _reviews(order, token) as (stub, metadata):
        foreseen = stub.VoidOrders(request, metadata=metadata, timeout=REVIEW_TIMEOUT_S)
        meant = [one for one in foreseen.orders if one.effect == pb.VOID_EFFECT_VOIDED]
        console.print(_orders(foreseen.orders, WOULD))
        count = len(meant) + foreseen.remaining_count
        units = sum(one.quantity for one in meant)
        if not count:
            console.print("nothing to void: none of these orders awaits payment")
            return
        more = f" and {foreseen.remaining_count} further ones" if foreseen.remaining_count else ""
        question = f"{len(meant)} orders{more} of {shown(sku)} will be cancelled, {units} units"
        console.print(f"{question} go back on sale{' and more' if more else ''}.")
        if not yes and not typer.confirm("Void them?"):
            raise CommandFailed("nothing was voided")
        request.dry_run = False
        told: list[pb.VoidedOrder] = []
        while True:
            answer = stub.VoidOrders(request, metadata=metadata, timeout=REVIEW_TIMEOUT_S)
            told += [one for one in answer.orders if one.effect == pb.VOID_EFFECT_VOIDED]
            if not answer.remaining_count:
                break
    effects = Counter(one.effect for one in answer.orders)
    console.print(f"{len(told)} orders voided")
    if effects[pb.VOID_EFFECT_NEEDS_REFUND]:
        console.print(f"{effects[pb.VOID_EFFECT_NEEDS_REFUND]} paid orders need a refund")


@contextmanager
def _reviews(order: str, token: str) -> Iterator[tuple[Stub, Metadata]]:
    """Open a stub of SaleReviewService, and the metadata that its calls need."""
    target = target_of("order", order)
    metadata = operator_metadata(order, token)
    with channel_to("order", target) as channel:
        yield hoarding_pb2_grpc.SaleReviewServiceStub(channel), metadata


def _pages(
    stub: Stub, metadata: Metadata, request: pb.ReviewSaleRequest
) -> Iterator[pb.ReviewSaleResponse]:
    while True:
        page = stub.ReviewSale(request, metadata=metadata, timeout=REVIEW_TIMEOUT_S)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _kind(cluster: pb.OrderCluster) -> str:
    return pb.ClusterKind.Name(cluster.kind).removeprefix(KIND_PREFIX).lower()


def _clusters(clusters: list[pb.OrderCluster]) -> TextTable:
    rows = table(("cluster", "why", "orders", "users"), ("unpaid", "paid", "first", "last"))
    for cluster in clusters:
        rows.add_text(
            cluster.id,
            _kind(cluster),
            str(cluster.order_count),
            str(cluster.user_count),
            str(cluster.pending_units),
            str(cluster.paid_units),
            show_moment(cluster.first_time),
            show_moment(cluster.last_time),
        )
    return rows


def _orders(
    orders: Iterable[pb.VoidedOrder], effects: "Mapping[pb.VoidEffect.ValueType, str]"
) -> TextTable:
    rows = table(("order", "what becomes of it"), ("units", "buyer"))
    for one in orders:
        rows.add_text(
            one.order_no,
            effects[one.effect],
            str(one.quantity) if one.quantity else "-",
            one.user_id or "-",
        )
    return rows


def _plain(cluster: pb.OrderCluster) -> dict[str, Any]:
    """Return a cluster as JSON has it: counts are numbers."""
    found: dict[str, Any] = MessageToDict(cluster, preserving_proto_field_name=True)
    for name in ("pending_units", "paid_units"):
        found[name] = getattr(cluster, name)
    return found | {"kind": _kind(cluster)}
