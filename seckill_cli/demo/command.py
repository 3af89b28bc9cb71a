"""`seckill demo`: set up what is missing, play the scenario, judge, clean up."""

import asyncio
import math
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import grpc
import typer
import uvloop
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from devstack import LocalSettings, StackState, start_background, stop_background
from devstack.certificates import load_or_create_mesh
from devstack.settings import read_cluster, read_secure
from seckill.buckets import BUCKETS_MAX
from seckill.runtime.dev_issuer import load_or_create
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill_cli.demo import report
from seckill_cli.demo.crowd import Crowd, connect, development_identity
from seckill_cli.demo.failover import master_killed
from seckill_cli.demo.scenario import Scenario, Tally, draw_crowd
from seckill_cli.demo.verdict import judge, settle
from seckill_cli.demo.watching import watched
from seckill_cli.demo.wave import arrive, worker_count
from seckill_cli.errors import CommandFailed
from seckill_cli.load.link import LinkTls
from seckill_cli.local.stack import SERVICES
from seckill_cli.mesh import CALL_TIMEOUT_S, aio_channel_to, local_state
from seckill_cli.top.series import latencies_ms, recorded

PRICE = sale_pb2.Money(currency="CNY", minor_units=990)
# Beyond the payment time: a killed service comes back, units return, late buyers pay.
LATE_BUYERS_EXTRA_S = 90.0
SETTLE_TIMEOUT_S = 60.0
LATE_RETRIES = 100
SALE_ATTEMPTS_MAX = 20
SALE_PAUSE_S = 0.5
SALE_S = 24 * 3600
# Of the sale on a Redis Cluster: more than masters, so that one has two.
CLUSTER_BUCKETS = 4
console = Console()


def _number(value: float) -> float:
    """Return it; NaN is within any range for the command's parser."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


def demo(
    buyers: Annotated[int, typer.Option(min=1, max=200_000, help="Distinct buyers.")] = 10_000,
    stock: Annotated[int, typer.Option(min=1, max=100_000, help="Units for sale.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, callback=_number, help="They arrive within.")
    ] = 5.0,
    pay_ratio: Annotated[
        float,
        typer.Option(min=0, max=1, callback=_number, help="Share of the first winners who pay."),
    ] = 0.6,
    payment_window: Annotated[
        float, typer.Option(min=1, max=3600, callback=_number, help="Seconds to pay.")
    ] = 6.0,
    seed: Annotated[int, typer.Option(help="Of the crowd.")] = 1,
    buckets: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=BUCKETS_MAX,
            help="Buckets of the sale.",
            show_default="1, on a Redis Cluster 4",
        ),
    ] = None,
) -> None:
    """Run a whole sale on real servers; exits with 1 if an invariant is broken.

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
    start_s = time.monotonic()
    with _stack() as state:
        buckets = buckets or (CLUSTER_BUCKETS if state.stores.redis_cluster else 1)
        summary = uvloop.run(_play(scenario, state, buckets=buckets, start_s=start_s))
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
    """Use the local stack that runs, or start one for the time of the demo."""
    state = local_state()
    if state is not None:
        if read_secure() and not state.certificates:
            raise CommandFailed("the mesh is up without SECURE=1; `seckill down` stops it")
        if read_cluster() and not state.stores.redis_cluster:
            raise CommandFailed("the mesh is up without CLUSTER=1; `seckill down` stops it")
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
        # Not if it could not be started: then another command's stack may be starting here.
        try:
            yield state
        finally:
            with console.status("stopping"):
                stop_background(directory)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


async def _play(
    scenario: Scenario, state: StackState, *, buckets: int, start_s: float
) -> dict[str, Any]:
    addresses = {process.name: process.address for process in state.processes}
    gateways = [addresses[name] for name in addresses if name.partition("-")[0] == "gateway"]
    sku = f"demo-{uuid.uuid4().hex[:8]}"
    await _create_sale(addresses["inventory"], sku, scenario, buckets=buckets)
    tls = _link_tls(state)
    issuer = load_or_create(LocalSettings.from_env().directory.absolute() / "secrets")
    late = Tally()
    async with watched(state, sku, console) as sampler:
        async with master_killed(state, sku, console, seconds=scenario.seconds):
            wave = await arrive(
                gateways=gateways,
                tls=tls,
                issuer=issuer,
                scenario=scenario,
                sku=sku,
                price=PRICE,
                notes=draw_crowd(scenario, sku),
                workers=worker_count(),
            )
        # Of the crowd alone: what comes later is a few calls at a time.
        crowded = [*sampler.samples, await sampler.take(sku)]
        late.paid = wave.tally.paid
        async with connect(addresses["gateway"], tls) as clients:
            crowd = Crowd(
                clients,
                identity_of=partial(development_identity, issuer),
                scenario=scenario,
                sku=sku,
                price=PRICE,
                notes=wave.notes,
                tally=late,
            )
            await crowd.wait_for_units(
                until_paid=min(scenario.stock, scenario.buyers),
                timeout_s=scenario.payment_window_s + LATE_BUYERS_EXTRA_S,
            )
            await crowd.retry_sold_out(LATE_RETRIES)
        totals = await settle(state.stores, sku, timeout_s=SETTLE_TIMEOUT_S)
        await sampler.take(sku)
    late.paid -= wave.tally.paid
    wave.tally.add(late)
    return report.summarize(
        scenario,
        tally=wave.tally,
        totals=totals,
        verdict=judge(totals, stock=scenario.stock, notes=wave.notes),
        arrival_s=wave.seconds,
        seconds=time.monotonic() - start_s,
        components=state.components,
        mesh_ms=latencies_ms(crowded),
        series=recorded(sampler.samples),
    )


def _link_tls(state: StackState) -> LinkTls | None:
    """Return with which certificate the crowd calls the gateway, if it needs one."""
    if not state.certificates:
        return None
    mesh = load_or_create_mesh(Path(state.certificates))
    return LinkTls(mesh.authority, mesh.operator.certificate, mesh.operator.key)


async def _create_sale(address: str, sku: str, scenario: Scenario, *, buckets: int) -> None:
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Demo sale",
        total_units=scenario.stock,
        unit_price=PRICE,
        purchase_limit=1,
        payment_window=Duration(seconds=int(scenario.payment_window_s)),
        buckets=buckets,
    )
    terms.start_time.GetCurrentTime()
    terms.end_time.FromSeconds(terms.start_time.seconds + SALE_S)
    async with aio_channel_to("inventory", address) as channel:
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
