"""Handles AuditSale."""

import asyncio
from dataclasses import asdict

from order_svc.audit.audit import Audit, SaleAuditor
from order_svc.audit.ledger import ROW_RULES, Movement, Rule
from order_svc.orders.model import timestamp
from order_svc.rpc.sales import check_sku
from seckill.v1 import order_admin_pb2 as pb

RULES = {
    Rule.LOADED_ONCE: pb.AUDIT_RULE_LOADED_ONCE,
    Rule.LEGAL_PATH: pb.AUDIT_RULE_LEGAL_PATH,
    Rule.SAME_UNITS: pb.AUDIT_RULE_SAME_UNITS,
    Rule.NEVER_OVERSOLD: pb.AUDIT_RULE_NEVER_OVERSOLD,
    Rule.ORDERS_AGREE: pb.AUDIT_RULE_ORDERS_AGREE,
    Rule.SALE_AGREES: pb.AUDIT_RULE_SALE_AGREES,
    Rule.APPEND_ONLY: pb.AUDIT_RULE_APPEND_ONLY,
    Rule.PAYMENTS_AGREE: pb.AUDIT_RULE_PAYMENTS_AGREE,
}


class AuditHandlers:
    """Audits sales, one at a time: each holds all orders of its sale in memory."""

    def __init__(self, auditor: SaleAuditor) -> None:
        self._auditor = auditor
        self._lock = asyncio.Lock()

    async def audit(self, request: pb.AuditSaleRequest) -> pb.AuditSaleResponse:
        """Handle AuditSale."""
        check_sku(request.sku)
        async with self._lock:
            return _response(await self._auditor.audit(request.sku))


def _response(audit: Audit) -> pb.AuditSaleResponse:
    replay, wrong = audit.replay, audit.wrong
    units = replay.units()
    return pb.AuditSaleResponse(
        read_time=timestamp(audit.read_at),
        proven=wrong is None,
        checks=[pb.AuditCheck(rule=RULES[rule], result=_result(rule, audit)) for rule in Rule],
        explanation=wrong.explanation if wrong else "",
        wrong_row=_row(wrong.movement if wrong else None),
        replayed_rows=replay.rows.total(),
        digest=replay.digest,
        units=pb.UnitAccount(
            loaded=replay.loaded,
            unsold=replay.loaded - replay.out,
            returning=units["returning"],
            awaiting_payment=units["reserved"],
            paid=units["paid"],
            written_off=units["written_off"],
        ),
        peak_units=replay.peak.units,
        peak_row=_row(replay.peak.movement),
        ledger_orders=replay.orders,
        compared_orders=audit.compared,
        sale_total_units=audit.total,
        sale_sold_units=audit.sold,
        payments=[pb.PaymentAccount(**asdict(money)) for money in audit.money],
        changes=audit.changes,
        voids=[
            pb.OrderVoid(
                order_no=row["order_no"],
                operator=row["operator"],
                reason=row["reason"],
                void_time=timestamp(row["at"]),
            )
            for row in audit.voids
        ],
    )


def _result(rule: Rule, audit: Audit) -> pb.AuditResult.ValueType:
    wrong = audit.wrong
    if wrong is None:
        return pb.AUDIT_RESULT_HOLDS
    if rule is wrong.rule:
        return pb.AUDIT_RESULT_BROKEN
    if wrong.rule in ROW_RULES and wrong.movement is not None:
        # Each row is checked against all of these rules before the next one is read.
        return pb.AUDIT_RESULT_HELD_BEFORE if rule in ROW_RULES else pb.AUDIT_RESULT_NOT_REACHED
    order = list(Rule)
    reached = order.index(rule) < order.index(wrong.rule)
    return pb.AUDIT_RESULT_HOLDS if reached else pb.AUDIT_RESULT_NOT_REACHED


def _row(movement: Movement | None) -> pb.LedgerRow | None:
    if movement is None:
        return None
    return pb.LedgerRow(
        id=movement.id,
        kind=movement.kind,
        order_no=movement.order_no or "",
        units=movement.quantity,
        write_time=timestamp(movement.at),
    )
