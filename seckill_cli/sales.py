"""`seckill sale …`: create, list, show, change and rebuild sales."""

import sys
import uuid
from collections.abc import Iterator
from typing import Annotated

import grpc
import typer

from seckill.buckets import BUCKETS_MAX
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_admin_pb2, sale_pb2
from seckill.validation import PURCHASE_LIMIT_MAX, UNITS_MAX
from seckill_cli import display, sale_review
from seckill_cli.display import TextTable, shown, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import CALL_TIMEOUT_S, InventoryOption, OrderOption, channel_to
from seckill_cli.operators import (
    Metadata,
    TokenOption,
    operator_metadata,
    order_admin,
    status_line,
)
from seckill_cli.sale_changes import changes_table, state_name
from seckill_cli.terms import duration, moment, money, show_moment, show_money

app = typer.Typer(help="Create and operate sales.", no_args_is_help=True)
app.command()(sale_review.review)
app.command()(sale_review.void)
console = display.console()
PAGE_SIZE = 1000
# A rebuild waits for the consumers.
REBUILD_TIMEOUT_S = 90.0

SkuArgument = Annotated[str, typer.Argument(help="Sku of the sale.")]


@app.command()
def create(
    sku: SkuArgument,
    units: Annotated[int, typer.Option(min=1, max=UNITS_MAX, help="Units for sale.")],
    price: Annotated[str, typer.Option(help="Price of one unit, e.g. 9.90.")] = "1.00",
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "CNY",
    title: Annotated[str, typer.Option(help="What the page shows.")] = "",
    limit: Annotated[
        int, typer.Option(min=1, max=PURCHASE_LIMIT_MAX, help="Most units in one purchase.")
    ] = 1,
    start: Annotated[
        str, typer.Option(help="When it starts selling: ISO 8601, now, or +10m.")
    ] = "now",
    end: Annotated[str, typer.Option(help="When it stops selling: ISO 8601, or +2h.")] = "+1d",
    payment_window: Annotated[str, typer.Option(help="Time to pay, e.g. 15m.")] = "15m",
    rebuy: Annotated[bool, typer.Option(help="A cancelled buyer may buy again.")] = False,
    buckets: Annotated[
        int,
        typer.Option(min=1, max=BUCKETS_MAX, help="Buckets to spread a hot sale's stock over."),
    ] = 1,
    inventory: InventoryOption = "",
) -> None:
    """Create a sale: register it in the database, then load its stock."""
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title=title,
        total_units=units,
        unit_price=money(price, currency, "--price"),
        purchase_limit=limit,
        start_time=moment(start, "--start"),
        end_time=moment(end, "--end"),
        payment_window=duration(payment_window, "--payment-window"),
        rebuy_allowed=rebuy,
        buckets=buckets,
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
        try:
            lost = _lost_skus(stub)
        except grpc.RpcError as error:
            console.print(f"whether Redis has lost sales is not known: {shown(status_line(error))}")
            return
    if lost:
        console.print("Redis has lost, and `seckill sale rebuild --lost` loads:")
        for sku in lost:
            console.print(f"  {shown(sku)}")


def _lost_skus(stub: "inventory_pb2_grpc.InventoryServiceStub") -> list[str]:
    """Return the sales on record that may sell and that Redis does not have."""
    request = inventory_pb2.ListLostSalesRequest(page_size=PAGE_SIZE)
    lost: list[str] = []
    while True:
        page = stub.ListLostSales(request, timeout=CALL_TIMEOUT_S)
        lost.extend(page.skus)
        if not page.next_page_token:
            return lost
        request.page_token = page.next_page_token


@app.command()
def show(
    sku: SkuArgument,
    inventory: InventoryOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Show one sale, and what operators changed of it."""
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).GetSale(
            inventory_pb2.GetSaleRequest(sku=sku), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.sale]))
    try:
        changes = list(_changes(sku, order, token))
    except CommandFailed as error:
        sys.stderr.write(f"what operators changed is not shown: {shown(str(error))}\n")
    except grpc.RpcError as error:
        sys.stderr.write(f"what operators changed is not shown: {shown(status_line(error))}\n")
    else:
        if changes:
            console.print()
            console.print(changes_table(changes))


@app.command("add-stock")
def add_stock(
    sku: SkuArgument,
    units: Annotated[int, typer.Option(min=1, max=UNITS_MAX, help="Units to add.")],
    addition: Annotated[
        str,
        typer.Option("--id", help="Names the addition: with the same id, units are added once."),
    ] = "",
    inventory: InventoryOption = "",
    token: TokenOption = "",
) -> None:
    """Put more units on sale. Repeat a call that failed with the same --id."""
    metadata = operator_metadata(inventory, token)
    addition = addition or uuid.uuid4().hex
    console.print(f"addition {shown(addition)}")
    request = inventory_pb2.AddStockRequest(sku=sku, addition_id=addition, units=units)
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).AddStock(
            request, metadata=metadata, timeout=CALL_TIMEOUT_S
        )
    if not answer.added:
        console.print("its units were added before")
    console.print(_table([answer.sale]))


@app.command()
def change(
    sku: SkuArgument,
    title: Annotated[
        str | None, typer.Option(help="What the page shows; only before the start.")
    ] = None,
    price: Annotated[
        str, typer.Option(help="Price of one unit, e.g. 9.90; only before the start.")
    ] = "",
    currency: Annotated[
        str, typer.Option(help="ISO 4217 code of --price.", show_default="the sale's")
    ] = "",
    start: Annotated[
        str, typer.Option(help="When it starts selling: ISO 8601, now, or +10m.")
    ] = "",
    end: Annotated[str, typer.Option(help="When it stops selling: ISO 8601, now, or +2h.")] = "",
    inventory: InventoryOption = "",
    token: TokenOption = "",
) -> None:
    """Change title and price of a sale that has not started, or when it starts and ends."""
    if title is None and not (price or start or end):
        raise typer.BadParameter("give at least one of --title, --price, --start, --end")
    if currency and not price:
        raise typer.BadParameter("needs --price", param_hint="'--currency'")
    request = inventory_pb2.UpdateSaleRequest(sku=sku, title=title)
    if start:
        request.start_time.CopyFrom(moment(start, "--start"))
    if end:
        request.end_time.CopyFrom(moment(end, "--end"))
    with channel_to("inventory", inventory) as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        if price:
            code = currency or _currency_of(stub, sku)
            request.unit_price.CopyFrom(money(price, code, "--price"))
        answer = stub.UpdateSale(
            request, metadata=_metadata(inventory, token), timeout=CALL_TIMEOUT_S
        )
    console.print(_table([answer.sale]))


@app.command()
def pause(sku: SkuArgument, inventory: InventoryOption = "", token: TokenOption = "") -> None:
    """Stop selling; orders go on."""
    _set_state(sku, sale_pb2.SALE_STATE_PAUSED, inventory, token)


@app.command()
def reopen(sku: SkuArgument, inventory: InventoryOption = "", token: TokenOption = "") -> None:
    """Sell again after a pause."""
    _set_state(sku, sale_pb2.SALE_STATE_OPEN, inventory, token)


@app.command()
def close(sku: SkuArgument, inventory: InventoryOption = "", token: TokenOption = "") -> None:
    """Stop selling for good; orders go on."""
    _set_state(sku, sale_pb2.SALE_STATE_CLOSED, inventory, token)


@app.command()
def rebuild(
    sku: Annotated[str, typer.Argument(help="Sku of the sale.", show_default=False)] = "",
    lost: Annotated[bool, typer.Option("--lost", help="All sales that Redis has lost.")] = False,
    inventory: InventoryOption = "",
) -> None:
    """Rebuild a sale that Redis has lost, or all of them, from the database."""
    if bool(sku) == lost:
        raise typer.BadParameter("give a sku, or --lost", param_hint="'SKU'")
    with channel_to("inventory", inventory) as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        rebuilt = [
            stub.RebuildSale(
                inventory_pb2.RebuildSaleRequest(sku=one), timeout=REBUILD_TIMEOUT_S
            ).sale
            for one in (_lost_skus(stub) if lost else [sku])
        ]
    console.print(_table(rebuilt))


@app.command()
def archive(sku: SkuArgument, inventory: InventoryOption = "", token: TokenOption = "") -> None:
    """Take a closed sale out of Redis; orders and ledger stay, `rebuild` brings it back."""
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).ArchiveSale(
            inventory_pb2.ArchiveSaleRequest(sku=sku),
            metadata=operator_metadata(inventory, token),
            timeout=REBUILD_TIMEOUT_S,
        )
    console.print(f"{sku}: {'archived' if answer.archived else 'was archived before'}")


def _set_state(sku: str, state: "sale_pb2.SaleState.ValueType", inventory: str, token: str) -> None:
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).UpdateSale(
            inventory_pb2.UpdateSaleRequest(sku=sku, state=state),
            metadata=_metadata(inventory, token),
            timeout=CALL_TIMEOUT_S,
        )
    console.print(_table([answer.sale]))


def _metadata(inventory: str, token: str) -> Metadata:
    """Return who calls, as far as it is known: nobody needs a token to stop a sale."""
    try:
        return operator_metadata(inventory, token)
    except CommandFailed:
        return ()


def _currency_of(stub: "inventory_pb2_grpc.InventoryServiceStub", sku: str) -> str:
    sale = stub.GetSale(inventory_pb2.GetSaleRequest(sku=sku), timeout=CALL_TIMEOUT_S).sale
    if not sale.loaded:
        raise typer.BadParameter(
            "is needed: the sale is not loaded, and does not tell its own",
            param_hint="'--currency'",
        )
    return sale.terms.unit_price.currency


def _changes(sku: str, order: str, token: str) -> Iterator[sale_pb2.SaleChange]:
    request = order_admin_pb2.ListSaleChangesRequest(sku=sku, page_size=PAGE_SIZE)
    with order_admin(order, token) as (stub, metadata):
        while True:
            page = stub.ListSaleChanges(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
            yield from page.changes
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _state_of(sale: sale_pb2.Sale) -> str:
    if sale.loaded:
        return state_name(sale.state)
    # Of a sale that Redis has lost nothing is told.
    return "archived" if sale.state == sale_pb2.SALE_STATE_CLOSED else "not loaded"


def _table(sales: list[sale_pb2.Sale]) -> TextTable:
    rows = table(("sku", "state", "left", "of", "buckets", "price"), ("start", "end", "title"))
    for sale in sales:
        terms = sale.terms
        rows.add_text(
            terms.sku,
            _state_of(sale),
            str(sale.remaining_units),
            str(terms.total_units),
            str(terms.buckets or 1),
            show_money(terms.unit_price),
            show_moment(terms.start_time),
            show_moment(terms.end_time),
            terms.title,
        )
    return rows
