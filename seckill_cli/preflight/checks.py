"""Collects what every replica finds of itself, and compares them with one another."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc

from seckill.findings import FAILED, OK, UNKNOWN, WARNING, Verdict, clock_finding
from seckill.v1 import preflight_pb2, preflight_pb2_grpc, sale_pb2
from seckill.version import VERSION
from seckill_cli.operators import Metadata
from seckill_cli.preflight.replicas import Replica

CHECK_TIMEOUT_S = 20.0
THIS = "this command"


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        where: whose check it is.
        name: what was looked at.
        found: in words.
        advice: what to do about it; "" if nothing.
    """

    where: str
    name: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Plan:
    """What is expected.

    Attributes:
        sku: of the sale that is to be held.
        buyers, units: who come, and for what.
        seconds: within which the buyers come.
        deadline_s: within which 99 of 100 buyers must be answered.
        payment_window_s: how long buyers may take to pay.
        buckets: of the sale; the shadow sale has as many.
    """

    sku: str
    buyers: int
    units: int
    seconds: float
    deadline_s: float
    payment_window_s: float = 900.0
    buckets: int = 1

    @property
    def rate_per_s(self) -> float:
        """Buyers a second."""
        return self.buyers / self.seconds


@dataclass(frozen=True)
class _Answer:
    """What a replica said, and by how much its clock is ahead of ours."""

    replica: Replica
    response: preflight_pb2.RunChecksResponse | None
    ahead_s: float = 0.0
    problem: str = ""


async def run_checks(
    replicas: Iterable[Replica], plan: Plan, sale: sale_pb2.Sale | None, metadata: Metadata
) -> list[Check]:
    """Ask all replicas; return their checks, then those between them."""
    request = preflight_pb2.RunChecksRequest(
        buyers=plan.buyers,
        units=plan.units,
        end_time=sale.terms.end_time if sale is not None and sale.loaded else None,
    )
    request.duration.FromMilliseconds(max(1, int(plan.seconds * 1000)))
    answers = await asyncio.gather(*(_ask(one, request, metadata) for one in replicas))
    checks = [check for answer in answers for check in _checks_of(answer)]
    return [*checks, *_clocks(answers), _versions(answers)]


async def _ask(
    replica: Replica, request: preflight_pb2.RunChecksRequest, metadata: Metadata
) -> _Answer:
    async with replica.channel() as channel:
        stub = preflight_pb2_grpc.PreflightServiceStub(channel)
        try:
            response = await stub.RunChecks(request, metadata=metadata, timeout=CHECK_TIMEOUT_S)
            received_s = time.time()
        except grpc.aio.AioRpcError as error:
            return _Answer(replica, None, problem=f"{error.code().name}: {error.details()}")
        # The service reads its clock at the end of its checks: half a way before the answer comes.
        ahead_s = response.time.ToNanoseconds() / 1e9 - received_s
        return _Answer(replica, response, ahead_s)


def _checks_of(answer: _Answer) -> list[Check]:
    where = answer.replica.name
    if answer.response is None:
        service = answer.replica.service
        missing = answer.problem.startswith("UNIMPLEMENTED")
        advice = (
            "upgrade it: this release cannot be asked"
            if missing
            else f"start it, or see its log; --{service} says where it is asked for"
        )
        allowed = not answer.problem.startswith(("UNAUTHENTICATED", "PERMISSION_DENIED"))
        if not allowed:
            advice = "--token: a JWT whose claim `roles` lists `operator`"
        verdict = FAILED if allowed and not missing else UNKNOWN
        return [Check(where, "answers", verdict, answer.problem, advice)]
    return [
        Check(where, one.name, one.verdict, one.found, one.advice) for one in answer.response.checks
    ]


def _clocks(answers: Sequence[_Answer]) -> list[Check]:
    checks = []
    for answer in answers:
        if answer.response is not None:
            found = clock_finding("clock", answer.ahead_s)
            checks.append(
                Check(answer.replica.name, found.name, found.verdict, found.found, found.advice)
            )
    return checks


def _versions(answers: Sequence[_Answer]) -> Check:
    versions = {
        answer.replica.name: answer.response.version
        for answer in answers
        if answer.response is not None
    }
    different = set(versions.values()) - {VERSION}
    if not different:
        return Check("mesh", "versions", OK, f"{VERSION} everywhere")
    found = ", ".join(f"{name}: {version}" for name, version in versions.items())
    releases = {_release(version) for version in (*versions.values(), VERSION)}
    advice = f"end the upgrade before the sale; this command is {VERSION}"
    return Check("mesh", "versions", FAILED if len(releases) > 1 else WARNING, found, advice)


def _release(version: str) -> str:
    """Return what contracts are kept within: MAJOR.MINOR while MAJOR is 0, else MAJOR."""
    major, minor, *_ = version.split(".")
    return f"0.{minor}" if major == "0" else major


def check_sale(sale: sale_pb2.Sale | None, plan: Plan, *, drift: str | None) -> list[Check]:
    """Return what the sale itself says.

    Args:
        sale: None if inventory did not answer.
        drift: what reconciling found, "" for nothing; None if it could not.
    """
    where = f"sale {plan.sku}"
    if sale is None:
        return [Check(where, "loaded", UNKNOWN, "inventory did not answer")]
    terms, now_s = sale.terms, time.time()
    checks = []
    if not sale.loaded:
        if sale.state == sale_pb2.SALE_STATE_CLOSED:
            return [Check(where, "loaded", FAILED, "it is archived", "closed is for good")]
        advice = f"seckill sale rebuild {plan.sku}"
        return [Check(where, "loaded", FAILED, "Redis has lost it", advice)]
    checks.append(Check(where, "loaded", OK, f"{sale.remaining_units:,} units can be reserved"))
    state = sale_pb2.SaleState.Name(sale.state).removeprefix("SALE_STATE_").lower()
    if sale.state == sale_pb2.SALE_STATE_OPEN:
        checks.append(Check(where, "state", OK, state))
    else:
        checks.append(Check(where, "state", FAILED, state, f"seckill sale reopen {plan.sku}"))
    end_s = terms.end_time.ToNanoseconds() / 1e9
    if end_s <= now_s:
        advice = f"seckill sale reschedule {plan.sku} --end …"
        checks.append(Check(where, "window", FAILED, "it is over", advice))
    else:
        start_s = terms.start_time.ToNanoseconds() / 1e9
        begins = "it has begun" if start_s <= now_s else f"begins in {start_s - now_s:,.0f} s"
        checks.append(
            Check(where, "window", OK, f"{begins}, {end_s - max(now_s, start_s):,.0f} s long")
        )
    if sale.remaining_units < plan.units:
        advice = f"seckill sale add-stock {plan.sku} --units …, or a smaller --units"
        found = f"{sale.remaining_units:,} units, {plan.units:,} are expected"
        checks.append(Check(where, "units", FAILED, found, advice))
    if drift is None:
        advice = f"seckill reconcile {plan.sku}, once reservations are not on their way any more"
        checks.append(Check(where, "stores agree", UNKNOWN, "could not be compared", advice))
    elif drift:
        advice = f"seckill reconcile {plan.sku} --repair"
        checks.append(Check(where, "stores agree", FAILED, drift, advice))
    else:
        checks.append(Check(where, "stores agree", OK, "Redis and the database"))
    return checks
