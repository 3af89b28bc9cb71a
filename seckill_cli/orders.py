"""`seckill order …`: show, list, pay, cancel and refund orders, as an operator."""

import uuid
from typing import Annotated

import typer

from seckill.v1 import order_pb2, order_pb2_grpc
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption, channel_to
from seckill_cli.operators import TokenOption, operator_metadata
from seckill_cli.terms import show_moment, show_money

app = typer.Typer(help="Look at orders and act on them.", no_args_is_help=True)
console = display.console()
STATE_PREFIX = "ORDER_STATE_"

NumberArgument = Annotated[str, typer.Argument(help="Number of the order, 26 characters.")]


@app.command()
def show(order_no: NumberArgument, order: OrderOption = "") -> None:
    """Show one order."""
    with channel_to("order", order) as channel:
        answer = order_pb2_grpc.OrderServiceStub(channel).GetOrder(
            order_pb2.GetOrderRequest(order_no=order_no), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.order]))


@app.command("list")
def list_orders(
    sku: Annotated[str, typer.Option(help="Only this sale's.")] = "",
    user: Annotated[str, typer.Option(help="Only this buyer's.")] = "",
    state: Annotated[str, typer.Option(help="Only in this state, e.g. paid.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    order: OrderOption = "",
) -> None:
    """List orders, newest first."""
    names = [name.removeprefix(STATE_PREFIX).lower() for name in order_pb2.OrderState.keys()[1:]]
    if state and state not in names:
        raise typer.BadParameter(f"{state!a} is none of {', '.join(names)}", param_hint="'--state'")
    wanted = order_pb2.OrderState.Value(STATE_PREFIX + (state or "unspecified").upper())
    request = order_pb2.ListOrdersRequest(sku=sku, user_id=user, state=wanted, page_size=limit)
    with channel_to("order", order) as channel:
        answer = order_pb2_grpc.OrderServiceStub(channel).ListOrders(
            request, timeout=CALL_TIMEOUT_S
        )
    console.print(_table(list(answer.orders)))
    if answer.next_page_token:
        console.print("there are more: narrow the search, or raise --limit")


@app.command()
def pay(
    order_no: NumberArgument,
    payment_id: Annotated[str, typer.Option(help="Names the payment.", show_default="new")] = "",
    provider: Annotated[str, typer.Option(help="Who took it.")] = "operator",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Record that an order was paid in full."""
    metadata = operator_metadata(order, token)
    with channel_to("order", order) as channel:
        stub = order_pb2_grpc.OrderServiceStub(channel)
        found = stub.GetOrder(order_pb2.GetOrderRequest(order_no=order_no), timeout=CALL_TIMEOUT_S)
        answer = stub.ConfirmPayment(
            order_pb2.ConfirmPaymentRequest(
                order_no=order_no,
                provider=provider,
                payment_id=payment_id or str(uuid.uuid4()),
                amount=found.order.amount,
            ),
            metadata=metadata,
            timeout=CALL_TIMEOUT_S,
        )
    console.print(_table([answer.order]))


@app.command()
def cancel(order_no: NumberArgument, order: OrderOption = "") -> None:
    """Cancel an unpaid order; its units go back on sale."""
    with channel_to("order", order) as channel:
        answer = order_pb2_grpc.OrderServiceStub(channel).CancelOrder(
            order_pb2.CancelOrderRequest(order_no=order_no), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.order]))


@app.command()
def refund(
    order_no: NumberArgument,
    restock: Annotated[
        bool, typer.Option("--restock/--write-off", help="Put its units back on sale, or not.")
    ],
    refund_id: Annotated[str, typer.Option(help="Names the refund.", show_default="new")] = "",
    order: OrderOption = "",
) -> None:
    """Record that a paid order was paid back."""
    with channel_to("order", order) as channel:
        answer = order_pb2_grpc.OrderServiceStub(channel).RefundOrder(
            order_pb2.RefundOrderRequest(
                order_no=order_no, refund_id=refund_id or str(uuid.uuid4()), restock=restock
            ),
            timeout=CALL_TIMEOUT_S,
        )
    console.print(_table([answer.order]))


def _table(orders: list[order_pb2.Order]) -> TextTable:
    rows = table(("order", "units", "amount", "state"), ("sku", "buyer", "created", "pay by"))
    for order in orders:
        rows.add_text(
            order.order_no,
            str(order.quantity),
            show_money(order.amount),
            order_pb2.OrderState.Name(order.state).removeprefix(STATE_PREFIX).lower(),
            order.sku,
            order.user_id,
            show_moment(order.create_time),
            show_moment(order.expire_time),
        )
    return rows
