"""`seckill bench …`: write the files that load generators read."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from seckill.client import CallFailed, SeckillClient, visible
from seckill.runtime.purchase_tokens import PurchaseTokens, parse_keys
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, order_pb2
from seckill_cli import mesh
from seckill_cli.errors import CommandFailed
from seckill_cli.local.tokens import SecretsOption, dev_issuer
from seckill_cli.mesh import CALL_TIMEOUT_S, GatewayOption, channel_to, target_of
from seckill_cli.terms import length_s

app = typer.Typer(help="Prepare load tests.", no_args_is_help=True)
FOLDER = Path(".seckill/ghz")
IN_FLIGHT_MAX = 64
# For all orders of a run to become visible, from the last purchase on.
VISIBLE_TIMEOUT_S = 60.0

Json = dict[str, object]
T = TypeVar("T")

SkuOption = Annotated[str, typer.Option(help="Sku of the sale.")]
CountOption = Annotated[int, typer.Option(min=1, max=1_000_000, help="Buyers.")]


@app.command()
def tokens(
    sku: SkuOption,
    count: CountOption,
    data: Annotated[Path, typer.Option(help="Where to write PurchaseRequests.")] = (
        FOLDER / "purchases.json"
    ),
    metadata: Annotated[Path, typer.Option(help="Where to write the buyers' identities.")] = (
        FOLDER / "buyers.json"
    ),
    ttl: Annotated[
        str,
        typer.Option(
            help="Sign the purchase tokens here, with the local stack's key, to last this long "
            "(10m).",
            show_default="ask the gateway; they last ten seconds",
        ),
    ] = "",
    gateway: GatewayOption = "",
    secrets: SecretsOption = None,
) -> None:
    """Mint identities and purchase tokens for as many buyers.

    Entry i of one file belongs to entry i of the other.
    """
    identities = _identities(count, secrets=secrets)
    if ttl:
        minted = _sign(sku, identities, ttl_s=length_s(ttl, "--ttl"), secrets=secrets)
    else:
        with channel_to("gateway", gateway) as channel:
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            minted = [
                token
                for some in _portions(identities.values())
                for token in _issue(stub, sku, some)
            ]
    _write(data, [purchase(sku, token) for token in minted])
    _write(metadata, [{"authorization": _bearer(identity)} for identity in identities.values()])
    typer.echo(f"{count} purchases in {data}, their buyers in {metadata}")


@app.command()
def orders(
    sku: SkuOption,
    count: CountOption,
    data: Annotated[Path, typer.Option(help="Where to write the orders' numbers.")] = (
        FOLDER / "orders.json"
    ),
    payments: Annotated[Path, typer.Option(help="Where to write PayOrderRequests.")] = (
        FOLDER / "payments.json"
    ),
    metadata: Annotated[Path, typer.Option(help="Where to write whose they are.")] = (
        FOLDER / "owners.json"
    ),
    gateway: GatewayOption = "",
    secrets: SecretsOption = None,
) -> None:
    """Buy as many units, each by another buyer, and wait until the orders are there.

    Entry i of each file belongs to the same order. They are unpaid, and live as long as the sale's
    payment window. Fails if the sale sells fewer.
    """
    identities = _identities(count, secrets=secrets)
    # At once, if the gateway does not answer or the sale is not there.
    with channel_to("gateway", gateway) as channel:
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
        gateway_pb2_grpc.GatewayServiceStub(channel).GetSale(request, timeout=CALL_TIMEOUT_S)
    found = asyncio.run(_buy(target_of("gateway", gateway), sku, list(identities.values())))
    _write(data, [{"order_no": order.order_no} for order in found])
    _write(payments, [payment(order) for order in found])
    _write(metadata, [{"authorization": _bearer(identity)} for identity in identities.values()])
    typer.echo(f"{count} orders in {data}, how to pay them in {payments}, whose in {metadata}")


def _identities(count: int, *, secrets: Path | None) -> dict[str, str]:
    """Return new buyers with their identities."""
    issuer = dev_issuer(secrets)
    tag = uuid.uuid4().hex[:8]
    users = (f"ghz-{tag}-{number}" for number in range(count))
    return {user: issuer.token(user) for user in users}


def _sign(
    sku: str, identities: Mapping[str, str], *, ttl_s: float, secrets: Path | None
) -> list[str]:
    signer = PurchaseTokens(parse_keys(dev_issuer(secrets).purchase_token_keys))
    expire_ms = int((time.time() + ttl_s) * 1000)
    return [
        signer.mint(user, sku, authorization=_bearer(identity).encode(), expire_ms=expire_ms)
        for user, identity in identities.items()
    ]


def _bearer(identity: str) -> str:
    return f"Bearer {identity}"


def _issue(stub: gateway_pb2_grpc.GatewayServiceStub, sku: str, some: Sequence[str]) -> list[str]:
    """Return purchase tokens, asked for at the same time."""
    request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    calls = [
        stub.IssuePurchaseToken.future(
            request, metadata=(("authorization", _bearer(identity)),), timeout=CALL_TIMEOUT_S
        )
        for identity in some
    ]
    return [call.result().purchase_token for call in calls]


async def _buy(target: str, sku: str, tokens: Sequence[str]) -> list[order_pb2.Order]:
    """Buy a unit for each identity and wait for the orders.

    Raises:
        CommandFailed: the sale sells fewer units, or the gateway does not answer.
    """
    slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def buy(buyer: SeckillClient) -> str:
        async with slots:
            purchase = await buyer.buy(sku)
        if not purchase.reserved:
            raise CommandFailed(f"{sku} sells fewer units: {purchase.outcome.name}")
        return purchase.order_no

    async def see(buyer: SeckillClient, order_no: str) -> order_pb2.Order:
        async with slots:
            return await buyer.wait(order_no, visible, timeout_s=VISIBLE_TIMEOUT_S)

    chosen = mesh.security_of(target)
    async with SeckillClient(
        target, credentials=chosen.credentials, options=chosen.options("gateway")
    ) as client:
        buyers = [client.acting_for(token) for token in tokens]
        try:
            numbers = await _all(map(buy, buyers))
            return await _all(map(see, buyers, numbers))
        except* (CallFailed, CommandFailed) as failures:
            raise CommandFailed(f"{target}: {failures.exceptions[0]}") from failures


async def _all(steps: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Run all at the same time; the first failure ends the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(step) for step in steps]
    return [task.result() for task in tasks]


def _portions(identities: Iterable[str]) -> Iterator[list[str]]:
    left = iter(identities)
    while some := list(itertools.islice(left, IN_FLIGHT_MAX)):
        yield some


def purchase(sku: str, token: str) -> Json:
    """Return a PurchaseRequest as ghz reads it."""
    return {
        "sku": sku,
        "quantity": 1,
        "purchase_token": token,
        "request_id": str(uuid.uuid4()),
    }


def payment(order: order_pb2.Order) -> Json:
    """Return the PayOrderRequest of an order."""
    return {
        "order_no": order.order_no,
        "payment_id": f"pay-{order.order_no}",
        "amount": {
            "currency": order.amount.currency,
            "minor_units": order.amount.minor_units,
        },
    }


def _write(path: Path, entries: Sequence[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
