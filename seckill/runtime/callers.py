"""Who may call what inside the mesh: one table, and the checks that enforce it.

Enforced by every server while the mesh has TLS (mesh_tls.py): a caller is the stage that its
client certificate names. What is not in the table nobody may call.
"""

from collections.abc import Iterator, Mapping
from functools import cache

from prometheus_client import Counter

from seckill.errors import NotAllowed

GATEWAY, INVENTORY, ORDER, ROLLBACK, EDGE = "gateway", "inventory", "order", "rollback", "edge"
# A person at the command line, and the shop's own services.
OPERATOR, SHOP = "operator", "shop"
STAGES = (GATEWAY, INVENTORY, ORDER, ROLLBACK, EDGE, OPERATOR, SHOP)
# A certificate that names no stage, or no certificate at all: on the listener for probes.
NOBODY = "unknown"

# The edge has verified an operator's token and role before it passes a call on (ADR 32).
_OPERATORS = frozenset({EDGE, OPERATOR})
# Who brings a buyer's token: the edge, or the shop's services in a buyer's name.
_BUYERS = frozenset({EDGE, OPERATOR, SHOP})
_ANYBODY = frozenset({*STAGES, NOBODY})


def _only(*stages: str) -> frozenset[str]:
    return frozenset(stages)


# Service → the stage that serves it, and who may call each of its methods.
TABLE: Mapping[str, tuple[str, Mapping[str, frozenset[str]]]] = {
    "seckill.v1.GatewayService": (
        GATEWAY,
        {
            "ListSales": _BUYERS,
            "GetSale": _BUYERS,
            "IssuePurchaseToken": _BUYERS,
            "Purchase": _BUYERS,
            "GetOrder": _BUYERS,
            "WatchOrder": _BUYERS,
            "CancelOrder": _BUYERS,
            "PayOrder": _BUYERS,
            "ReceivePaymentCallback": _BUYERS,
        },
    ),
    "seckill.v1.GatewayAdminService": (GATEWAY, {"ExplainRisk": _OPERATORS}),
    "xds.service.orca.v3.OpenRcaService": (GATEWAY, {"StreamCoreMetrics": _only(EDGE)}),
    "seckill.v1.InventoryService": (
        INVENTORY,
        {
            "CreateSale": _OPERATORS | _only(SHOP),
            "UpdateSale": _OPERATORS,
            "AddStock": _OPERATORS,
            "SyncSale": _only(ROLLBACK),
            "GetSale": _OPERATORS | _only(GATEWAY, SHOP),
            "ListSales": _OPERATORS | _only(GATEWAY, ROLLBACK),
            "Reserve": _only(GATEWAY),
            "BatchReserve": _only(GATEWAY),
            "Release": _only(ROLLBACK),
            "RebuildSale": _OPERATORS,
            "RemoveShadowSale": _only(OPERATOR),
            "ArchiveSale": _only(OPERATOR),
            "ListLostSales": _OPERATORS | _only(ROLLBACK),
            "ListHolds": _only(ROLLBACK, OPERATOR),
            "ExplainHolds": _only(OPERATOR),
            "RepairHolds": _only(ROLLBACK),
            "SetKillSwitch": _OPERATORS,
            "GetKillSwitch": _OPERATORS,
            "WatchSales": _only(GATEWAY, EDGE),
        },
    ),
    "seckill.v1.OrderService": (
        ORDER,
        {
            "RegisterSale": _only(INVENTORY),
            "RemoveShadowSale": _only(INVENTORY),
            "CheckSaleSettled": _only(INVENTORY),
            "RecordArchive": _only(INVENTORY),
            "GetOrder": _OPERATORS | _only(SHOP),
            "BatchGetOrders": _only(GATEWAY, INVENTORY),
            "ListOrders": _OPERATORS,
            "WatchOrder": _only(GATEWAY),
            "PayOrder": _only(GATEWAY),
            "ConfirmPayment": _only(OPERATOR, SHOP),
            "ReceivePaymentCallback": _only(GATEWAY),
            "CancelOrder": _OPERATORS | _only(GATEWAY),
            "RefundOrder": _OPERATORS | _only(SHOP),
            "CancelExpired": _only(ROLLBACK),
            "ListUnrestored": _only(ROLLBACK),
            "ListExpired": _only(ROLLBACK),
            "ClaimUnrestored": _only(ROLLBACK),
            "MarkRestored": _only(ROLLBACK),
            "GetSaleTotals": _OPERATORS | _only(INVENTORY),
            "GetUnpaidUnits": _only(GATEWAY),
            "RecordSale": _only(INVENTORY),
            "AddUnits": _only(INVENTORY),
            "ChangeTerms": _only(INVENTORY),
            "GetSaleRecord": _OPERATORS | _only(INVENTORY),
            "ListOpenSales": _only(INVENTORY),
            "AwaitConsumed": _only(INVENTORY, ROLLBACK),
            "BeginRebuild": _only(INVENTORY),
            "SnapshotSale": _only(INVENTORY, ROLLBACK),
            "ConfirmStore": _only(INVENTORY),
        },
    ),
    "seckill.v1.OrderAdminService": (
        ORDER,
        {
            "AuditSale": _OPERATORS,
            "ListDeadLetters": _OPERATORS,
            "GetDeadLetter": _OPERATORS,
            "RedriveDeadLetters": _OPERATORS,
            "DropDeadLetters": _OPERATORS,
            "ListWebhookDeliveries": _OPERATORS,
            "GetWebhookDelivery": _OPERATORS,
            "RedriveWebhookDeliveries": _OPERATORS,
            "DropWebhookDeliveries": _OPERATORS,
            "ListWebhookEndpoints": _OPERATORS,
            "ResumeWebhookEndpoint": _OPERATORS,
            "ListSaleChanges": _OPERATORS,
            "ListPayments": _OPERATORS,
            "SettlePayment": _OPERATORS | _only(SHOP),
            "ExplainOrders": _only(OPERATOR),
        },
    ),
    "seckill.v1.GateRulesService": (
        ORDER,
        {
            "GetLimits": _OPERATORS,
            "SetLimits": _OPERATORS,
            "ResetLimits": _OPERATORS,
            "AddListEntry": _OPERATORS,
            "RemoveListEntry": _OPERATORS,
            "ListEntries": _OPERATORS,
            "SetSalePolicy": _OPERATORS,
            "GetSalePolicy": _OPERATORS,
            "ListSalePolicies": _OPERATORS,
            "ListGateChanges": _OPERATORS,
            "WatchGateRules": _only(GATEWAY),
        },
    ),
    "seckill.v1.BuyerHistoryService": (
        ORDER,
        {"BatchGetBuyerHistories": _only(GATEWAY), "RecordSightings": _only(GATEWAY)},
    ),
    "seckill.v1.SaleReviewService": (ORDER, {"ReviewSale": _OPERATORS, "VoidOrders": _OPERATORS}),
    "seckill.v1.RollbackService": (
        ROLLBACK,
        {
            "Sweep": _only(OPERATOR),
            "Reconcile": _OPERATORS,
            "GetStatus": _OPERATORS,
            "ExplainDelays": _only(OPERATOR),
        },
    ),
    # On the socket that Envoy and its agent share; anywhere else nobody but them.
    "seckill.v1.OperatorLogService": (EDGE, {"ListOperatorActions": _only(EDGE)}),
    # What every service has.
    "seckill.v1.PreflightService": (
        "",
        {"RunChecks": _only(OPERATOR), "GetUsage": _only(OPERATOR)},
    ),
    # What every server has. Probes have no certificate; what they learn is "ready" or not.
    "grpc.health.v1.Health": ("", {"Check": _ANYBODY, "Watch": _ANYBODY, "List": _ANYBODY}),
    "grpc.reflection.v1alpha.ServerReflection": ("", {"ServerReflectionInfo": _only(OPERATOR)}),
}

CALLERS_REFUSED_TOTAL = Counter(
    "seckill_callers_refused_total",
    "Calls refused because the caller's stage may not call the method, by stage (or unknown) and"
    " method (or unknown).",
    ["caller", "grpc_method"],
)


def rows() -> Iterator[tuple[str, str, frozenset[str]]]:
    """The table flat: the stage that serves, the path of the method, and who may call it."""
    for service, (stage, methods) in TABLE.items():
        for method, stages in methods.items():
            yield stage, f"/{service}/{method}", stages


def stage_of_service(service: str) -> str:
    """Return the stage that serves a service; raises KeyError if it is not in the table."""
    return TABLE[service][0]


class Caller:
    """What the caller at the other end of a connection may call.

    Attributes:
        stage: one of STAGES, or NOBODY.
    """

    __slots__ = ("_permitted", "stage")

    def __init__(self, stage: str) -> None:
        self.stage = stage if stage in STAGES else NOBODY
        self._permitted = frozenset(path for _, path, stages in rows() if self.stage in stages)

    def may_call(self, path: str) -> bool:
        """Whether the table permits it."""
        return path in self._permitted

    def check(self, path: str) -> None:
        """Raise NotAllowed, and count, unless the caller may call `path`."""
        if path not in self._permitted:
            raise self.refusal(path)

    def refusal(self, path: str) -> NotAllowed:
        """Count a refused call; return what its caller is told."""
        known = path in _paths()
        method = path.rpartition("/")[2] if known else "unknown"
        CALLERS_REFUSED_TOTAL.labels(self.stage, method).inc()
        named = path.removeprefix("/") if known else "this method"
        return NotAllowed(f"{self.stage} may not call {named}")


@cache
def _paths() -> frozenset[str]:
    return frozenset(path for _, path, _ in rows())


@cache
def caller(stage: str) -> Caller:
    """Return the caller of a stage, one for all connections of the process."""
    return Caller(stage)
