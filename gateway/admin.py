"""What operators ask a gateway, served beside the buyers' methods."""

import time

import grpc

from gateway.addresses import ADDRESS_CHARS_MAX, bucket_key, parse_address
from gateway.admission import Admission, Moment
from gateway.risk.assessor import Assessor
from gateway.risk.judgement import Judgement, Thresholds, Tier
from gateway.risk.signals import SIGNALS
from gateway.rules_feed import RulesFeed
from gateway.sales import Sales
from gateway.servicer import Context, ContextCaller
from seckill.errors import SaleNotFound
from seckill.runtime.roles import RoleGate
from seckill.v1 import gateway_admin_pb2, gateway_admin_pb2_grpc
from seckill.validation import Violations

_TIERS: dict[Tier, gateway_admin_pb2.RiskTier.ValueType] = {
    Tier.PASS: gateway_admin_pb2.RISK_TIER_PASS,
    Tier.CHALLENGE: gateway_admin_pb2.RISK_TIER_CHALLENGE,
    Tier.REFUSE: gateway_admin_pb2.RISK_TIER_REFUSE,
}


class GatewayAdminServicer(gateway_admin_pb2_grpc.GatewayAdminServiceServicer):
    """Explains decisions to operators."""

    def __init__(
        self,
        *,
        operators: RoleGate,
        admission: Admission,
        sales: Sales,
        rules: RulesFeed,
        assessor: Assessor,
    ) -> None:
        self._operators = operators
        self._admission = admission
        self._sales = sales
        self._rules = rules
        self._assessor = assessor

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        gateway_admin_pb2_grpc.add_GatewayAdminServiceServicer_to_server(self, server)

    async def ExplainRisk(
        self, request: gateway_admin_pb2.ExplainRiskRequest, context: Context
    ) -> gateway_admin_pb2.ExplainRiskResponse:
        moment = Moment.read()
        # Before the token is looked at: verifying one costs more than anything else here.
        self._admission.charge_client(ContextCaller(context), moment)
        await self._operators.admit(context)
        address = _check(request)
        if self._sales.get(request.sku) is None:
            await self._sales.find(request.sku)
            if self._sales.get(request.sku) is None:
                raise SaleNotFound(metadata={"sku": request.sku})
        policy = self._rules.rules.policy(request.sku)
        last = None if address else self._assessor.last(request.user_id, request.sku)
        if last is not None:
            judgement = self._assessor.judge.judge(last.facts, policy)
            return self._response(judgement, policy, tier=last.tier, at_s=last.at_s)
        judgement = await self._assessor.foresee(
            request.user_id,
            request.sku,
            address,
            policy,
            now_s=time.time(),
            monotonic_s=moment.monotonic_s,
        )
        return self._response(judgement, policy, tier=judgement.tier, at_s=None)

    def _response(
        self, judgement: Judgement, policy: Thresholds, *, tier: Tier, at_s: float | None
    ) -> gateway_admin_pb2.ExplainRiskResponse:
        facts = judgement.facts
        response = gateway_admin_pb2.ExplainRiskResponse(
            tier=_TIERS[tier],
            score=judgement.score,
            leading_signal=judgement.leading,
            challenge_at=policy.challenge_at,
            refuse_at=policy.refuse_at,
            facts=gateway_admin_pb2.RiskFacts(
                address_users=facts.address_users,
                fingerprint_users=facts.fingerprint_users,
                account_age_s=facts.account_age_s,
                claims_lacking=facts.lacking,
                unpaid_orders=facts.unpaid,
                paid_orders=facts.paid,
            ),
        )
        for name, value in zip(SIGNALS, judgement.values, strict=True):
            weight = self._assessor.judge.weights[name]
            response.signals.add(name=name, value=value, weight=weight, contribution=value * weight)
        if at_s is not None:
            response.decision_time.FromMilliseconds(int(at_s * 1000))
        return response


def _check(request: gateway_admin_pb2.ExplainRiskRequest) -> str:
    """Return the name of the address' bucket, "" without one; raises InvalidField."""
    violations = Violations()
    violations.user_id("user_id", request.user_id)
    violations.sku("sku", request.sku)
    # A long text is not parsed: it is none.
    address = parse_address(request.address[: ADDRESS_CHARS_MAX + 1])
    if request.address and address is None:
        violations.add("address", "is no IPv4 or IPv6 address")
    violations.check()
    return "" if address is None else bucket_key(address)
