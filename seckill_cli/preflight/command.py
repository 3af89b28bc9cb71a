"""`seckill preflight SKU`: go, or no-go, before a sale."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import grpc
import typer

from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    rollback_pb2,
    rollback_pb2_grpc,
    sale_pb2,
)
from seckill_cli import display, mesh
from seckill_cli.errors import CommandFailed
from seckill_cli.load import running
from seckill_cli.load.link import LinkError
from seckill_cli.mesh import (
    CALL_TIMEOUT_S,
    GatewayOption,
    InventoryOption,
    OrderOption,
    RollbackOption,
    target_of,
)
from seckill_cli.operators import Metadata, TokenOption, operator_metadata
from seckill_cli.preflight import picture
from seckill_cli.preflight.checks import Check, Plan, check_sale, run_checks
from seckill_cli.preflight.expectation import expect
from seckill_cli.preflight.identities import Identities, read_identities
from seckill_cli.preflight.model import Forecast, forecast, mix_of
from seckill_cli.preflight.rehearsal import Rehearsal, Rehearsed
from seckill_cli.preflight.replicas import Replica, replicas_of
from seckill_cli.preflight.verdict import judge

RECONCILE_TIMEOUT_S = 30.0
SECONDS_MAX = 1_800.0
console = display.console()


def _number(value: float) -> float:
    """Return it; NaN is within any range for the command's parser."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


def preflight(
    sku: Annotated[str, typer.Argument(help="Sku of the sale that is to be held.")],
    buyers: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Buyers who are expected.")
    ] = 10_000,
    units: Annotated[
        int,
        typer.Option(min=0, max=10_000_000, help="Units.", show_default="those that the sale has"),
    ] = 0,
    seconds: Annotated[
        float,
        typer.Option(
            min=1,
            max=SECONDS_MAX,
            callback=_number,
            help="The buyers come within; the rehearsal too.",
        ),
    ] = 60.0,
    deadline: Annotated[
        float,
        typer.Option(
            min=0.001, max=60, callback=_number, help="Seconds in which 99 % must be answered."
        ),
    ] = 1.0,
    rehearse: Annotated[
        bool, typer.Option("--rehearse/--checks-only", help="Rehearse a shadow sale.")
    ] = True,
    identities: Annotated[
        Path | None,
        typer.Option(
            envvar="SECKILL_PREFLIGHT_IDENTITIES",
            help="File of JWTs of buyers, one a line.",
            show_default="minted for the local stack" if mesh.IN_REPOSITORY else False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    gateway: GatewayOption = "",
    inventory: InventoryOption = "",
    order: OrderOption = "",
    rollback: RollbackOption = "",
    token: TokenOption = "",
) -> None:
    """Tell whether a sale would hold: checks of all services and stores, and a rehearsal.

    The rehearsal sells units that do not exist, in a sale of its own that nobody sees and of which
    nothing stays. Exits with 0 for go, 2 for no-go, 1 if it could not tell.
    """
    targets = {
        "gateway": target_of("gateway", gateway),
        "inventory": target_of("inventory", inventory),
        "order": target_of("order", order),
        "rollback": target_of("rollback", rollback),
    }
    metadata = operator_metadata(order, token)
    replicas = [one for name, target in targets.items() for one in replicas_of(name, target)]
    who: Identities | str = "--checks-only"
    if rehearse:
        who = _identities(identities, gateway)
    asked = Asked(sku, buyers=buyers, units=units, seconds=seconds, deadline_s=deadline)
    running.run(_run(asked, replicas, metadata, who, as_json=as_json))


class Asked:
    """What the command line says; the units may be those of the sale."""

    def __init__(
        self, sku: str, *, buyers: int, units: int, seconds: float, deadline_s: float
    ) -> None:
        self.sku = sku
        self._buyers, self._units = buyers, units
        self._seconds, self._deadline_s = seconds, deadline_s

    def plan(self, sale: sale_pb2.Sale | None) -> Plan:
        """Return the plan for a sale; None if nothing is known of it."""
        known = 0 if sale is None else sale.remaining_units or sale.terms.total_units
        units = self._units or known or 1
        plan = Plan(self.sku, self._buyers, units, self._seconds, self._deadline_s)
        if sale is None or not sale.loaded:
            return plan
        return replace(
            plan,
            payment_window_s=sale.terms.payment_window.ToMilliseconds() / 1000,
            buckets=sale.terms.buckets or 1,
        )


def _identities(path: Path | None, gateway: str) -> Identities | str:
    """Return who plays the buyers, or why nobody does."""
    if path is not None:
        return read_identities(path)
    # An identity of the local stack is for the local stack: no other address is given one.
    if mesh.local_state() is None or (gateway and not mesh.is_local(gateway)):
        return "the buyers have no identities: give --identities, a file of JWTs"
    # Not at import: the wheel and the image have no local stack.
    from seckill_cli.local.tokens import dev_issuer  # noqa: PLC0415

    return Identities(issuer=dev_issuer(None))


async def _run(
    asked: Asked,
    replicas: Sequence[Replica],
    metadata: Metadata,
    who: Identities | str,
    *,
    as_json: bool,
) -> None:
    sale = await _sale(asked.sku, replicas)
    plan = asked.plan(sale)
    checks = await run_checks(replicas, plan, sale, metadata)
    checks += check_sale(sale, plan, drift=await _drift(asked.sku, replicas))
    if not as_json:
        picture.draw_checks(console, checks)
    rehearsed: Rehearsed | None = None
    expected: Forecast | None = None
    problem = who if isinstance(who, str) else _obstacle(checks)
    if not problem and isinstance(who, Identities):
        rehearsal = Rehearsal(
            plan,
            replicas=replicas,
            identities=who,
            metadata=metadata,
            say=(lambda _: None) if as_json else (lambda step: console.print(f"rehearsal: {step}")),
        )
        try:
            rehearsed = await rehearsal.run()
        except grpc.RpcError as error:
            problem = _text_of(error)
        else:
            mix = mix_of(buyers=plan.buyers, units=plan.units)
            found = forecast(rehearsed.stages, mix, rate_per_s=plan.rate_per_s)
            expected = expect(found, rehearsed.stages, plan)
    verdict = judge(checks, plan, rehearsed, expected, problem=problem)
    if as_json:
        document = picture.as_document(plan, checks, rehearsed, expected, verdict)
        typer.echo(json.dumps(document, indent=2))
    else:
        if rehearsed is not None and expected is not None:
            picture.draw_rehearsal(console, plan, rehearsed, expected)
        picture.draw_verdict(console, verdict)
    raise typer.Exit(int(verdict.answer))


def _obstacle(checks: Sequence[Check]) -> str:
    """Return why a rehearsal would fail for certain; "" if it may go on."""
    for one in checks:
        if one.name in {"answers", "kill switch"} and one.advice:
            return f"{one.where}: {one.name}: {one.found}"
    return ""


async def _sale(sku: str, replicas: Sequence[Replica]) -> sale_pb2.Sale | None:
    """Return the sale, None if inventory does not answer; raises CommandFailed if there is none."""
    async with _first(replicas, "inventory").channel() as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        try:
            answer = await stub.GetSale(
                inventory_pb2.GetSaleRequest(sku=sku), timeout=CALL_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                return None
            raise CommandFailed(f"the inventory service: {_text_of(error)}") from error
        return answer.sale


async def _drift(sku: str, replicas: Sequence[Replica]) -> str | None:
    """Return what reconciling would find, "" for nothing, None if it could not compare."""
    async with _first(replicas, "rollback").channel() as channel:
        stub = rollback_pb2_grpc.RollbackServiceStub(channel)
        try:
            answer = await stub.Reconcile(
                rollback_pb2.ReconcileRequest(sku=sku), timeout=RECONCILE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return None
    if not answer.findings:
        return ""
    count = len(answer.findings) + answer.unlisted_findings
    return f"{count} findings, the first: {answer.findings[0].explanation}"


def _first(replicas: Sequence[Replica], service: str) -> Replica:
    return next(one for one in replicas if one.service == service)


def _text_of(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.aio.AioRpcError | LinkError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
