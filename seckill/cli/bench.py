"""`seckill bench …`: what load generators need."""

import itertools
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import grpc
import typer
from google.protobuf.json_format import ParseDict

from gateway.tokens import PurchaseTokens, parse_keys
from seckill.cli.mesh import CALL_TIMEOUT_S, GatewayOption, channel_to
from seckill.cli.terms import length_s
from seckill.cli.tokens import SecretsOption, dev_issuer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, order_pb2

app = typer.Typer(help="Prepare load tests.", no_args_is_help=True)
FOLDER = Path(".seckill/ghz")
IN_FLIGHT_MAX = 64
# For all orders of a run to become visible, from the last purchase on.
VISIBLE_TIMEOUT_S = 60.0
POLL_S = 0.1

Json = dict[str, object]
Identity = tuple[tuple[str, str], ...]

SkuOption = Annotated[str, typer.Option(help="Sku of the sale.")]
CountOption = Annotated[int, typer.Option(min=1, max=1_000_000, help="Buyers.")]


@app.command()
def tokens(
    sku: SkuOption,
    count: CountOption,
    data: Annotated[Path, typer.Option(help="Where to write PurchaseRequests.")] = (
        FOLDER / "purchases.json"
    ),
    metadata: Annotated[Path, typer.Option(help="Where to write who presses.")] = (
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
        minted = _sign(sku, identities, ttl_s=length_s(ttl), secrets=secrets)
    else:
        with channel_to("gateway", gateway) as channel:
            stub = gateway_pb2_grpc.GatewayServiceStub(channel)
            minted = [
                token
                for some in _portions(identities.values())
                for token in _issue(stub, sku, some)
            ]
    _write(data, [purchase(sku, token) for token in minted])
    _write(metadata, [dict(identity) for identity in identities.values()])
    typer.echo(f"{count} purchases in {data}, who presses in {metadata}")


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
    """Buy as many units, each by a buyer of his own, and wait until the orders are there.

    Entry i of each file belongs to the same order. They are unpaid, and live as long as the sale's
    payment window. Fails where the sale sells fewer.
    """
    identities = _identities(count, secrets=secrets)
    with channel_to("gateway", gateway) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        bought = _buy(stub, sku, identities)
        due_s = time.monotonic() + VISIBLE_TIMEOUT_S
        found = [
            _see(stub, order_no, identity=identity, due_s=due_s)
            for order_no, identity in zip(bought, identities.values(), strict=True)
        ]
    _write(data, [{"order_no": order.order_no} for order in found])
    _write(payments, [payment(order) for order in found])
    _write(metadata, [dict(identity) for identity in identities.values()])
    typer.echo(f"{count} orders in {data}, how to pay them in {payments}, whose in {metadata}")


def _identities(count: int, *, secrets: Path | None) -> dict[str, Identity]:
    """Buyers nobody has seen before, with their metadata."""
    issuer = dev_issuer(secrets)
    tag = uuid.uuid4().hex[:8]
    users = (f"ghz-{tag}-{number}" for number in range(count))
    return {user: (("authorization", f"Bearer {issuer.token(user)}"),) for user in users}


def _sign(
    sku: str, identities: Mapping[str, Identity], *, ttl_s: float, secrets: Path | None
) -> list[str]:
    signer = PurchaseTokens(parse_keys(dev_issuer(secrets).purchase_token_keys))
    expire_ms = int((time.time() + ttl_s) * 1000)
    return [
        signer.mint(user, sku, authorization=identity[0][1].encode(), expire_ms=expire_ms)
        for user, identity in identities.items()
    ]


def _issue(
    stub: gateway_pb2_grpc.GatewayServiceStub, sku: str, some: Sequence[Identity]
) -> list[str]:
    """Purchase tokens, asked for at the same time."""
    request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    calls = [
        stub.IssuePurchaseToken.future(request, metadata=identity, timeout=CALL_TIMEOUT_S)
        for identity in some
    ]
    return [call.result().purchase_token for call in calls]


def _buy(
    stub: gateway_pb2_grpc.GatewayServiceStub, sku: str, identities: Mapping[str, Identity]
) -> list[str]:
    """The orders' numbers; raises BadParameter where the sale sells fewer units."""
    bought: list[str] = []
    # A token is used before the next ones are asked for: it lasts ten seconds.
    for some in _portions(identities.values()):
        minted = _issue(stub, sku, some)
        calls = [
            stub.Purchase.future(
                ParseDict(purchase(sku, token), gateway_pb2.PurchaseRequest()),
                metadata=identity,
                timeout=CALL_TIMEOUT_S,
            )
            for identity, token in zip(some, minted, strict=True)
        ]
        for call in calls:
            answer = call.result()
            if answer.outcome != inventory_pb2.PURCHASE_OUTCOME_RESERVED:
                said = inventory_pb2.PurchaseOutcome.Name(answer.outcome)
                raise typer.BadParameter(f"{sku} sold {len(bought)} units, then said {said}")
            bought.append(answer.order_no)
    return bought


def _see(
    stub: gateway_pb2_grpc.GatewayServiceStub, order_no: str, *, identity: Identity, due_s: float
) -> order_pb2.Order:
    """The order once it is visible; raises the last NOT_FOUND where that takes too long."""
    request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=order_no)
    while True:
        try:
            answer = stub.GetOrder(request, metadata=identity, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            code = cast("grpc.Call", error).code()
            if code is not grpc.StatusCode.NOT_FOUND or time.monotonic() > due_s:
                raise
            time.sleep(POLL_S)
        else:
            return answer.order


def _portions(identities: Iterable[Identity]) -> Iterator[list[Identity]]:
    left = iter(identities)
    while some := list(itertools.islice(left, IN_FLIGHT_MAX)):
        yield some


def purchase(sku: str, token: str) -> Json:
    """A PurchaseRequest as ghz reads it."""
    return {
        "sku": sku,
        "quantity": 1,
        "purchase_token": token,
        "request_id": str(uuid.uuid4()),
    }


def payment(order: order_pb2.Order) -> Json:
    """The PayOrderRequest of an order."""
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
