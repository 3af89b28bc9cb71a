"""`seckill demo`: set up what is missing, play the scenario, judge, clean up."""

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import grpc
import typer
import uvloop
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.live import Live

from deploy.local import LocalSettings, StackState, start_background, stop_background
from seckill.cli.mesh import CALL_TIMEOUT_S, local_state
from seckill.cli.stack import SERVICES
from seckill.cli.terms import moment
from seckill.demo import board, report
from seckill.demo.crowd import Crowd, connect
from seckill.demo.scenario import Answer, Buyer, Scenario, Tally, draw_arrivals
from seckill.demo.verdict import judge, settle
from seckill.demo.wave import LiveCounts, arrive, worker_count
from seckill.dev_issuer import load_or_create
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2

PRICE = sale_pb2.Money(currency="CNY", minor_units=990)
# Beyond the payment time: a killed stage comes back, units return, late buyers pay.
LATE_BUYERS_EXTRA_S = 90.0
SETTLE_TIMEOUT_S = 60.0
KNOCKERS = 100
SALE_ATTEMPTS_MAX = 20
SALE_PAUSE_S = 0.5
console = Console()


def demo(
    buyers: Annotated[int, typer.Option(min=1, max=200_000, help="Distinct buyers.")] = 10_000,
    stock: Annotated[int, typer.Option(min=1, max=100_000, help="Units for sale.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="They arrive within.")] = 5.0,
    pay_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the first winners who pay.")
    ] = 0.6,
    payment_window: Annotated[float, typer.Option(min=1, max=3600, help="Seconds to pay.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Of the crowd.")] = 1,
) -> None:
    """Run a whole sale on real servers; exits with 1 where an invariant is broken.

    Uses the local stack that `seckill up` keeps running, or starts one and stops it again.
    """
    scenario = Scenario(
        buyers=buyers,
        stock=stock,
        seconds=seconds,
        pay_ratio=pay_ratio,
        payment_window_s=payment_window,
        seed=seed,
    )
    begun_s = time.monotonic()
    with _stack() as state:
        summary = uvloop.run(_play(scenario, state, begun_s=begun_s))
    path = LocalSettings.from_env().directory / "demo.json"
    report.write(path, summary)
    console.print(report.table(summary))
    console.print(f"written to {path}")
    broken = [name for name in ("oversold", "lost", "unaccounted") if summary[name]]
    if broken:
        console.print(f"[bold red]broken: {', '.join(broken)}")
        raise typer.Exit(1)


@contextmanager
def _stack() -> Iterator[StackState]:
    """The local stack that runs, or one for the time of the demo."""
    state = local_state()
    if state is not None:
        console.print("using the mesh that is up")
        yield state
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    directory = LocalSettings.from_env().directory.absolute()
    try:
        with console.status(
            "starting Postgres, Valkey, Kafka and the mesh (the first time, Kafka is fetched)"
        ):
            state = start_background(services=SERVICES)
        yield state
    finally:
        with console.status("stopping"):
            stop_background(directory)
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


async def _play(scenario: Scenario, state: StackState, *, begun_s: float) -> dict[str, Any]:
    addresses = {process.name: process.address for process in state.processes}
    sku = f"demo-{uuid.uuid4().hex[:8]}"
    await _create_sale(addresses["inventory"], sku, scenario)
    issuer = load_or_create(LocalSettings.from_env().directory.absolute() / "secrets")
    crowd_of = [
        Buyer(
            user_id=f"{sku}-buyer-{number}",
            identity=(("authorization", f"Bearer {issuer.token(f'{sku}-buyer-{number}')}"),),
            arrives_s=arrives_s,
            presses_twice=twice,
            pays=False,
        )
        for number, (arrives_s, twice) in enumerate(draw_arrivals(scenario))
    ]
    workers = worker_count()
    counts = LiveCounts(workers)
    late = Tally()

    def told() -> dict[Answer, int]:
        return {
            answer: count + late.by_answer[answer] for answer, count in counts.by_answer().items()
        }

    over = asyncio.Event()
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        picture = asyncio.create_task(
            board.watch(
                live, stores=state.stores, sku=sku, scenario=scenario, counts=told, over=over
            )
        )
        try:
            wave = await arrive(
                gateway=addresses["gateway"],
                scenario=scenario,
                sku=sku,
                price=PRICE,
                buyers=crowd_of,
                live=counts,
                workers=workers,
            )
            late.paid = wave.tally.paid
            async with connect(addresses["gateway"]) as stubs:
                crowd = Crowd(
                    stubs, scenario=scenario, sku=sku, price=PRICE, buyers=wave.buyers, tally=late
                )
                await crowd.wait_for_units(
                    until_paid=min(scenario.stock, scenario.buyers),
                    timeout_s=scenario.payment_window_s + LATE_BUYERS_EXTRA_S,
                )
                await crowd.knock_again(KNOCKERS)
            books = await settle(state.stores, sku, timeout_s=SETTLE_TIMEOUT_S)
        finally:
            over.set()
            await asyncio.gather(picture, return_exceptions=True)
    late.paid -= wave.tally.paid
    wave.tally.add(late)
    return report.summarize(
        scenario,
        tally=wave.tally,
        books=books,
        verdict=judge(books, stock=scenario.stock, buyers=wave.buyers),
        arrival_s=wave.seconds,
        seconds=time.monotonic() - begun_s,
        components=state.components,
    )


async def _create_sale(address: str, sku: str, scenario: Scenario) -> None:
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Demo sale",
        total_units=scenario.stock,
        unit_price=PRICE,
        purchase_limit=1,
        start_time=moment("now"),
        end_time=moment("+1d"),
        payment_window=Duration(seconds=int(scenario.payment_window_s)),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        for attempt in range(1, SALE_ATTEMPTS_MAX + 1):
            try:
                await stub.CreateSale(
                    inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S
                )
            except grpc.aio.AioRpcError as error:
                retryable = error.code() is grpc.StatusCode.UNAVAILABLE
                if not retryable or attempt == SALE_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(SALE_PAUSE_S)
            else:
                return
