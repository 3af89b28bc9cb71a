"""`seckill payment …`: list what providers took, and settle what was paid back."""

import itertools
from collections.abc import Iterator
from typing import Annotated

import typer

from seckill.v1 import order_admin_pb2 as pb
from seckill.v1 import payment_pb2
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import Metadata, Stub, TokenOption, order_admin
from seckill_cli.terms import show_moment, show_money

app = typer.Typer(help="Look at payments and settle those to refund.", no_args_is_help=True)
console = display.console()
PAGE_SIZE = 1_000
STATE_PREFIX, REASON_PREFIX = "PAYMENT_STATE_", "PAYMENT_REASON_"


@app.command("list")
def list_payments(
    to_refund: Annotated[
        bool, typer.Option("--to-refund", help="Only those that must be paid back.")
    ] = False,
    order_no: Annotated[str, typer.Option(help="Only those stated for this order.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List payments, oldest first."""
    request = pb.ListPaymentsRequest(
        state=payment_pb2.PAYMENT_STATE_TO_REFUND
        if to_refund
        else payment_pb2.PAYMENT_STATE_UNSPECIFIED,
        order_no=order_no,
        page_size=min(limit, PAGE_SIZE),
    )
    with order_admin(order, token) as (stub, metadata):
        found = list(itertools.islice(_payments(stub, metadata, request), limit))
    console.print(_table(found))
    console.print(f"{len(found)} payments")


@app.command()
def settle(
    provider: Annotated[str, typer.Argument(help="Who took the payment.")],
    payment_id: Annotated[str, typer.Argument(help="The provider's name of it.")],
    refund_id: Annotated[str, typer.Option(help="Names the refund.")],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Record that a payment which stood to be refunded was paid back."""
    request = pb.SettlePaymentRequest(provider=provider, payment_id=payment_id, refund_id=refund_id)
    with order_admin(order, token) as (stub, metadata):
        answer = stub.SettlePayment(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(_table([answer.payment]))


def _payments(
    stub: Stub, metadata: Metadata, request: pb.ListPaymentsRequest
) -> Iterator[payment_pb2.Payment]:
    while True:
        page = stub.ListPayments(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
        yield from page.payments
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _table(payments: list[payment_pb2.Payment]) -> TextTable:
    rows = table(("provider", "payment", "amount", "state"), ("reason", "order", "taken", "refund"))
    for payment in payments:
        state = payment_pb2.PaymentState.Name(payment.state)
        reason = payment_pb2.PaymentReason.Name(payment.reason)
        rows.add_text(
            payment.provider,
            payment.payment_id,
            show_money(payment.amount),
            state.removeprefix(STATE_PREFIX).lower().replace("_", " "),
            reason.removeprefix(REASON_PREFIX).lower().replace("_", " ") if payment.reason else "-",
            payment.order_no,
            show_moment(payment.receive_time),
            payment.refund_id or "-",
        )
    return rows
