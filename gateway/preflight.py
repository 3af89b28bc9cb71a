"""What a gateway looks at before a sale: limits against the crowd, keys, certificates, sales."""

from collections.abc import Sequence

from gateway.admission import Admission, Moment
from gateway.limits import limits_of
from gateway.rules_feed import RulesFeed
from gateway.sales import Sales
from gateway.servicer import Context, ContextCaller
from gateway.settings import GatewaySettings
from seckill.findings import FAILED, OK, WARNING, Check, Crowd, Finding
from seckill.runtime.preflight.common import certificates, keys, readiness
from seckill.runtime.preflight.service import PreflightServicer
from seckill.runtime.roles import RoleGate

# Of each buyer: a purchase token, and the purchase.
CALLS_OF_BUYER = 2
# Buyers who come within a second although they are expected evenly, in multiples of the mean.
PEAK = 2.0
# What a purchase token's life must leave for the purchase.
TOKEN_TTL_MIN_S = 2.0


class _ChargedGate:
    """Charges a call to its address before the token is looked at: verifying one costs more."""

    def __init__(self, operators: RoleGate, admission: Admission) -> None:
        self._operators = operators
        self._admission = admission

    async def admit(self, context: Context) -> str:
        """Return the operator's name; raises as the admission and the gate do."""
        self._admission.charge_client(ContextCaller(context), Moment.read())
        return await self._operators.admit(context)


def build_preflight(
    settings: GatewaySettings,
    *,
    sales: Sales,
    rules: RulesFeed,
    operators: RoleGate,
    admission: Admission,
) -> PreflightServicer:
    """Return what operators ask before a sale."""
    own = _Gateway(settings, rules)
    checks: list[Check] = [
        readiness({"sales": sales.check_seen}),
        own.bucket_of_all,
        own.buckets_of_each,
        own.connections,
        own.rules,
        own.tokens,
        keys("SECKILL_GATEWAY_JWKS", settings.gateway_jwks),
        certificates(settings),
    ]
    return PreflightServicer("gateway", checks, gate=_ChargedGate(operators, admission))


class _Gateway:
    """Compares this gateway's limits with the crowd."""

    def __init__(self, settings: GatewaySettings, rules: RulesFeed) -> None:
        self._settings = settings
        self._rules = rules

    def _limits(self, name: str) -> tuple[float, float]:
        """Return the rate and the burst in force."""
        rate, burst = limits_of(self._settings, name)
        limits = self._rules.rules.limits
        return limits.get(f"rate_{name}", rate), limits.get(f"burst_{name}", burst)

    async def bucket_of_all(self, crowd: Crowd) -> Sequence[Finding]:
        name = "limit of all calls"
        rate, burst = self._limits("all")
        if not rate:
            return [Finding(name, OK, "off")]
        calls = CALLS_OF_BUYER * crowd.buyers
        allowed = burst + rate * crowd.seconds
        found = f"{rate:g} a second and {burst:,.0f} at once, of this gateway"
        if calls > allowed:
            needed = PEAK * calls / crowd.seconds
            found += f"; {crowd.buyers:,} buyers make {calls:,} calls in {crowd.seconds:g} s"
            advice = (
                f"seckill limits set rate_all={needed:.0f}, divided by the gateways there are"
                " (SECKILL_GATEWAY_RATE_ALL)"
            )
            return [Finding(name, FAILED, found, advice)]
        return [Finding(name, OK, found)]

    async def buckets_of_each(self, _: Crowd) -> Sequence[Finding]:
        findings = []
        for bucket, what in (("user", "buyer"), ("issue", "buyer's tokens"), ("ip", "address")):
            rate, burst = self._limits(bucket)
            name = f"limit of each {what}"
            if not rate:
                findings.append(
                    Finding(name, WARNING, "off", f"seckill limits set rate_{bucket}=…")
                )
            elif burst < CALLS_OF_BUYER:
                advice = f"seckill limits set burst_{bucket}={CALLS_OF_BUYER} or more"
                findings.append(
                    Finding(name, FAILED, f"{burst:g} at once: no buyer gets through", advice)
                )
            else:
                findings.append(Finding(name, OK, f"{rate:g} a second, {burst:,.0f} at once"))
        return findings

    async def connections(self, crowd: Crowd) -> Sequence[Finding]:
        most = self._settings.gateway_calls_max
        peak = (
            PEAK * CALLS_OF_BUYER * crowd.buyers / crowd.seconds * self._settings.gateway_wait_max_s
        )
        found = f"{most:,} calls in flight, {self._settings.gateway_connections_max:,} connections"
        if peak > most:
            advice = "more gateways, or a larger SECKILL_GATEWAY_CALLS_MAX (it bounds memory)"
            return [Finding("calls in flight", WARNING, f"{found}; a peak has {peak:,.0f}", advice)]
        return [Finding("calls in flight", OK, found)]

    async def rules(self, _: Crowd) -> Sequence[Finding]:
        age_s = self._rules.age_s()
        if age_s > self._settings.gateway_sale_cache_ttl_s:
            advice = "start the order service: until then lists and limits are those last heard of"
            return [Finding("rules of the gate", FAILED, f"not heard of for {age_s:.0f} s", advice)]
        return [Finding("rules of the gate", OK, f"revision {self._rules.rules.revision}")]

    async def tokens(self, _: Crowd) -> Sequence[Finding]:
        ttl_s = self._settings.gateway_token_ttl_s
        if ttl_s < TOKEN_TTL_MIN_S:
            advice = "a larger SECKILL_GATEWAY_TOKEN_TTL_S"
            found = f"live for {ttl_s:g} s: too short for a slow buyer"
            return [Finding("purchase tokens", FAILED, found, advice)]
        return [Finding("purchase tokens", OK, f"live for {ttl_s:g} s")]
