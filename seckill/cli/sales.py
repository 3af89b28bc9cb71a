"""`seckill sale …`: create, list, show, pause, reopen and rebuild sales."""

from typing import Annotated

import typer
from rich.table import Table

from seckill.cli import display
from seckill.cli.display import table
from seckill.cli.mesh import CALL_TIMEOUT_S, InventoryOption, channel_to
from seckill.cli.terms import duration, moment, money, show_moment, show_money
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2

app = typer.Typer(help="Create and operate sales.", no_args_is_help=True)
console = display.console()
PAGE_SIZE = 1000
# A rebuild waits for the consumers.
REBUILD_TIMEOUT_S = 90.0

SkuArgument = Annotated[str, typer.Argument(help="Sku of the sale.")]


@app.command()
def create(
    sku: SkuArgument,
    units: Annotated[int, typer.Option(help="Units for sale.")],
    price: Annotated[str, typer.Option(help="Price of one unit, e.g. 9.90.")] = "1.00",
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "CNY",
    title: Annotated[str, typer.Option(help="What the page shows.")] = "",
    limit: Annotated[int, typer.Option(help="Most units in one purchase.")] = 1,
    start: Annotated[str, typer.Option(help="Begin: ISO 8601, now, or +10m.")] = "now",
    end: Annotated[str, typer.Option(help="End: ISO 8601, or +2h.")] = "+1d",
    payment_window: Annotated[str, typer.Option(help="Time to pay, e.g. 15m.")] = "15m",
    rebuy: Annotated[bool, typer.Option(help="A cancelled buyer may buy again.")] = False,
    inventory: InventoryOption = "",
) -> None:
    """Create a sale: register it in the database, then load its stock."""
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title=title,
        total_units=units,
        unit_price=money(price, currency),
        purchase_limit=limit,
        start_time=moment(start),
        end_time=moment(end),
        payment_window=duration(payment_window),
        rebuy_allowed=rebuy,
    )
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.sale]))


@app.command("list")
def list_sales(inventory: InventoryOption = "") -> None:
    """List all sales."""
    request = inventory_pb2.ListSalesRequest(page_size=PAGE_SIZE)
    sales: list[sale_pb2.Sale] = []
    with channel_to("inventory", inventory) as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        while True:
            page = stub.ListSales(request, timeout=CALL_TIMEOUT_S)
            sales.extend(page.sales)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    console.print(_table(sales))


@app.command()
def show(sku: SkuArgument, inventory: InventoryOption = "") -> None:
    """Show one sale."""
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).GetSale(
            inventory_pb2.GetSaleRequest(sku=sku), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.sale]))


@app.command()
def pause(sku: SkuArgument, inventory: InventoryOption = "") -> None:
    """Stop selling; orders go on."""
    _set_state(sku, sale_pb2.SALE_STATE_PAUSED, inventory)


@app.command()
def reopen(sku: SkuArgument, inventory: InventoryOption = "") -> None:
    """Sell again after a pause."""
    _set_state(sku, sale_pb2.SALE_STATE_OPEN, inventory)


@app.command()
def rebuild(sku: SkuArgument, inventory: InventoryOption = "") -> None:
    """Load a sale that Redis has lost anew, from the database."""
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).RebuildSale(
            inventory_pb2.RebuildSaleRequest(sku=sku), timeout=REBUILD_TIMEOUT_S
        )
    console.print(_table([answer.sale]))


def _set_state(sku: str, state: "sale_pb2.SaleState.ValueType", inventory: str) -> None:
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).UpdateSale(
            inventory_pb2.UpdateSaleRequest(sku=sku, state=state), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.sale]))


def _table(sales: list[sale_pb2.Sale]) -> Table:
    rows = table(("sku", "state", "left", "of", "price"), ("begin", "end", "title"))
    for sale in sales:
        terms = sale.terms
        state = sale_pb2.SaleState.Name(sale.state).removeprefix("SALE_STATE_").lower()
        rows.add_row(
            terms.sku,
            state if sale.loaded else "not loaded",
            str(sale.remaining_units),
            str(terms.total_units),
            show_money(terms.unit_price),
            show_moment(terms.start_time),
            show_moment(terms.end_time),
            terms.title,
        )
    return rows
