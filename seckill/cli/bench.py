"""`seckill bench …`: what load generators need."""

import json
import uuid
from pathlib import Path
from typing import Annotated

import typer

from seckill.cli.mesh import CALL_TIMEOUT_S, GatewayOption, channel_to
from seckill.cli.tokens import SecretsOption, dev_issuer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc

app = typer.Typer(help="Prepare load tests.", no_args_is_help=True)
IN_FLIGHT_MAX = 64


@app.command()
def tokens(
    sku: Annotated[str, typer.Option(help="Sku of the sale.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Buyers.")],
    data: Annotated[Path, typer.Option(help="Where to write ghz's data.")],
    metadata: Annotated[Path, typer.Option(help="Where to write ghz's metadata.")],
    gateway: GatewayOption = "",
    secrets: SecretsOption = None,
) -> None:
    """Mint identities and purchase tokens for as many buyers, for ghz.

    Purchase tokens last ten seconds: run ghz at once, or raise SECKILL_GATEWAY_TOKEN_TTL_S of the
    gateway under test.
    """
    issuer = dev_issuer(secrets)
    tag = uuid.uuid4().hex[:8]
    identities = [
        (("authorization", f"Bearer {issuer.token(f'ghz-{tag}-{number}')}"),)
        for number in range(count)
    ]
    request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    purchases: list[dict[str, object]] = []
    with channel_to("gateway", gateway) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        for begin in range(0, count, IN_FLIGHT_MAX):
            calls = [
                stub.IssuePurchaseToken.future(request, metadata=identity, timeout=CALL_TIMEOUT_S)
                for identity in identities[begin : begin + IN_FLIGHT_MAX]
            ]
            purchases.extend(
                {
                    "sku": sku,
                    "quantity": 1,
                    "purchase_token": call.result().purchase_token,
                    "request_id": str(uuid.uuid4()),
                }
                for call in calls
            )
    data.write_text(json.dumps(purchases))
    metadata.write_text(json.dumps([dict(identity) for identity in identities]))
    typer.echo(f"{count} purchases in {data}, their identities in {metadata}")
