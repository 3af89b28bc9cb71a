"""`seckill explain-risk`: why a caller got a purchase token, a challenge or a refusal."""

from typing import Annotated

import typer

from seckill.v1 import gateway_admin_pb2 as pb
from seckill.v1 import gateway_admin_pb2_grpc
from seckill_cli import display
from seckill_cli.display import shown, table
from seckill_cli.mesh import CALL_TIMEOUT_S, GatewayOption, channel_to
from seckill_cli.operators import TokenOption, operator_metadata
from seckill_cli.terms import show_moment

console = display.console()
TIER_PREFIX = "RISK_TIER_"


def explain_risk(
    sku: Annotated[str, typer.Argument(help="The sale.")],
    user: Annotated[str, typer.Argument(help="The user id.")],
    address: Annotated[
        str, typer.Option(help="As of now, for a call from this address.", show_default="none")
    ] = "",
    gateway: GatewayOption = "",
    token: TokenOption = "",
) -> None:
    """Explain the last decision of a gateway on a user and a sale, signal by signal."""
    metadata = operator_metadata(gateway, token)
    with channel_to("gateway", gateway) as channel:
        answer = gateway_admin_pb2_grpc.GatewayAdminServiceStub(channel).ExplainRisk(
            pb.ExplainRiskRequest(user_id=user, sku=sku, address=address),
            metadata=metadata,
            timeout=CALL_TIMEOUT_S,
        )
    _show(answer)


def _show(answer: pb.ExplainRiskResponse) -> None:
    tier = pb.RiskTier.Name(answer.tier).removeprefix(TIER_PREFIX).lower()
    when = "as of now"
    if answer.HasField("decision_time"):
        when = f"decided {show_moment(answer.decision_time)}"
    console.print(
        shown(
            f"{tier}: {answer.score:.1f} points, most by {answer.leading_signal}; challenged from"
            f" {answer.challenge_at}, refused from {answer.refuse_at} (0: never); {when}"
        )
    )
    rows = table(["signal", "value", "weight", "points"], [])
    for signal in answer.signals:
        rows.add_text(
            signal.name,
            f"{signal.value:.2f}",
            f"{signal.weight:g}",
            f"{signal.contribution:.1f}",
        )
    console.print(rows)
    facts = answer.facts
    age = (
        f"{facts.account_age_s / 86_400:.1f} days" if facts.HasField("account_age_s") else "unknown"
    )
    console.print(
        f"users behind the address {facts.address_users:.0f}, with the means of payment"
        f" {facts.fingerprint_users:.0f}; age of the account {age}; claims not held"
        f" {facts.claims_lacking}; orders unpaid {facts.unpaid_orders}, paid {facts.paid_orders}"
    )
