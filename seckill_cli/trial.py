"""`seckill try`: buy one unit of a sale made for it, to see that a mesh sells."""

import time
import uuid
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from google.protobuf.duration_pb2 import Duration

from seckill.client import CallFailed, Outcome, Purchase, SyncSeckillClient, settled
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, sale_pb2
from seckill_cli import display, mesh
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import CALL_TIMEOUT_S, GatewayOption, InventoryOption, channel_to, target_of

PRICE = sale_pb2.Money(currency="CNY", minor_units=990)
SALE_S = 600
# For each step: a purchase, an order that is written, a unit that comes back.
STEP_TIMEOUT_S = 30.0
POLL_S = 0.2
REFUSED = (Outcome.ALREADY_PURCHASED, Outcome.SOLD_OUT)
STATE_PREFIX = "ORDER_STATE_"
console = display.console()
T = TypeVar("T")

IdentityOption = Annotated[
    str,
    typer.Option(
        "--identity",
        envvar="SECKILL_IDENTITY",
        help="JWT of the buyer.",
        show_default="minted for the local stack" if mesh.IN_REPOSITORY else False,
    ),
]


def try_sale(
    gateway: GatewayOption = "",
    inventory: InventoryOption = "",
    identity: IdentityOption = "",
    pay: Annotated[
        bool, typer.Option("--pay", help="Pay, in a sandbox, instead of giving the unit back.")
    ] = False,
) -> None:
    """Create a sale of one unit, buy it, and give it back; exits with 1 at the first failure.

    The sale ends by itself after ten minutes.
    """
    sku = f"try-{uuid.uuid4().hex[:8]}"
    identity = identity or _mint(gateway)
    _create_sale(sku, inventory)
    _tell("sale", f"{sku}, one unit")
    target = target_of("gateway", gateway)
    chosen = mesh.security_of(target)
    try:
        with SyncSeckillClient(
            target,
            credentials=chosen.credentials,
            identity=identity,
            options=chosen.options("gateway"),
        ) as client:
            _play(client, sku, pay=pay)
    except CallFailed as failure:
        raise CommandFailed(f"{target}: {failure}") from failure


def _play(client: SyncSeckillClient, sku: str, *, pay: bool) -> None:
    # Clocks differ, and a sale that starts now may start in a moment elsewhere.
    first = _wait_for(
        lambda: client.buy(sku, timeout_s=STEP_TIMEOUT_S),
        lambda answer: answer.outcome is not Outcome.NOT_STARTED,
        "the sale has not started",
    )
    _expect(first, Outcome.RESERVED)
    _tell("bought", f"order {first.order_no}")
    _expect(client.buy(sku, timeout_s=STEP_TIMEOUT_S), *REFUSED)
    _tell("bought again", "refused, as it must be")
    client.get_order(first.order_no, timeout_s=STEP_TIMEOUT_S)
    _tell("order", "in the database")
    if pay:
        order = client.pay(first.order_no, payment_id=sku, amount=PRICE, timeout_s=STEP_TIMEOUT_S)
        _tell("order", _state(order))
        return
    client.cancel(first.order_no, timeout_s=STEP_TIMEOUT_S)
    _tell("order", _state(client.wait(first.order_no, settled, timeout_s=STEP_TIMEOUT_S)))
    _wait_for(
        lambda: client.sale(sku), lambda sale: sale.remaining_units == 1, "the unit is not back"
    )
    _tell("unit", "back on sale")


def _wait_for(read: Callable[[], T], holds: Callable[[T], bool], problem: str) -> T:
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while not holds(value := read()):
        if time.monotonic() > deadline_s:
            raise CommandFailed(f"{problem} after {STEP_TIMEOUT_S:g} s")
        time.sleep(POLL_S)
    return value


def _expect(answer: Purchase, *outcomes: Outcome) -> None:
    if answer.outcome not in outcomes:
        raise CommandFailed(f"the answer is {answer.outcome}, not {' or '.join(outcomes)}")


def _create_sale(sku: str, inventory: str) -> None:
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Trial",
        total_units=1,
        unit_price=PRICE,
        purchase_limit=1,
        payment_window=Duration(seconds=SALE_S),
    )
    terms.start_time.GetCurrentTime()
    terms.end_time.FromSeconds(terms.start_time.seconds + SALE_S)
    with channel_to("inventory", inventory) as channel:
        inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S
        )


def _mint(gateway: str) -> str:
    # An identity of the local stack is for the local stack: no other address is given one.
    if mesh.local_state() is None or (gateway and not mesh.is_local(gateway)):
        raise CommandFailed("the buyer has no identity: give --identity or SECKILL_IDENTITY")
    # Not at import: the wheel and the image have no local stack.
    from seckill_cli.local.tokens import dev_issuer  # noqa: PLC0415

    return dev_issuer(None).token("trial")


def _state(order: order_pb2.Order) -> str:
    return order_pb2.OrderState.Name(order.state).removeprefix(STATE_PREFIX).lower()


def _tell(step: str, result: str) -> None:
    console.print(f"{step:<14}{display.shown(result)}")
