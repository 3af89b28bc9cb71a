"""The methods that operators may call through the edge, and no others.

What is not here stays inside the mesh: methods by which services and replicas talk to each other,
and streams.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from edge.descriptors import descriptor_set
from seckill.v1 import (
    challenge_pb2,
    gate_pb2,
    gateway_admin_pb2,
    hoarding_pb2,
    inventory_pb2,
    operator_log_pb2,
    order_admin_pb2,
    order_pb2,
    rollback_pb2,
)

GATEWAY, INVENTORY, ORDER, ROLLBACK = "gateway", "inventory", "order", "rollback"
AGENT = "agent"
FILES = (
    inventory_pb2,
    order_pb2,
    order_admin_pb2,
    gate_pb2,
    hoarding_pb2,
    rollback_pb2,
    gateway_admin_pb2,
    operator_log_pb2,
)
# Cluster, and methods by service.
ALLOWED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "InventoryService": (
        INVENTORY,
        (
            "CreateSale",
            "UpdateSale",
            "AddStock",
            "GetSale",
            "ListSales",
            "ListLostSales",
            "RebuildSale",
            "SetKillSwitch",
            "GetKillSwitch",
        ),
    ),
    "OrderService": (
        ORDER,
        (
            "GetOrder",
            "ListOrders",
            "CancelOrder",
            "RefundOrder",
            "GetSaleTotals",
            "GetSaleRecord",
        ),
    ),
    "OrderAdminService": (
        ORDER,
        (
            "AuditSale",
            "ListDeadLetters",
            "GetDeadLetter",
            "RedriveDeadLetters",
            "DropDeadLetters",
            "ListWebhookDeliveries",
            "GetWebhookDelivery",
            "RedriveWebhookDeliveries",
            "DropWebhookDeliveries",
            "ListWebhookEndpoints",
            "ResumeWebhookEndpoint",
            "ListSaleChanges",
            "ListPayments",
            "SettlePayment",
        ),
    ),
    "GateRulesService": (
        ORDER,
        (
            "GetLimits",
            "SetLimits",
            "ResetLimits",
            "AddListEntry",
            "RemoveListEntry",
            "ListEntries",
            "SetSalePolicy",
            "GetSalePolicy",
            "ListSalePolicies",
            "ListGateChanges",
        ),
    ),
    "SaleReviewService": (ORDER, ("ReviewSale", "VoidOrders")),
    "RollbackService": (ROLLBACK, ("Reconcile", "GetStatus")),
    "GatewayAdminService": (GATEWAY, ("ExplainRisk",)),
    "OperatorLogService": (AGENT, ("ListOperatorActions",)),
}
# Seconds that an answer may take; others have DEFAULT_S.
LONG_S: Mapping[str, float] = {
    "AuditSale": 300.0,
    "ReviewSale": 300.0,
    "VoidOrders": 300.0,
    "Reconcile": 90.0,
    "RebuildSale": 120.0,
    "CreateSale": 120.0,
}
DEFAULT_S = 30.0


@dataclass(frozen=True, slots=True)
class Method:
    """A method that operators may call.

    Attributes:
        path: of the call, with a leading slash.
        cluster: where it is answered.
        timeout_s: how long that may take.
        changes: whether it may change anything.
    """

    path: str
    cluster: str
    timeout_s: float
    changes: bool


def methods() -> Iterator[Method]:
    """Return the methods; raises KeyError if a contract has none of that name."""
    services = {
        name: service
        for file in FILES
        for name, service in file.DESCRIPTOR.services_by_name.items()
    }
    for service, (cluster, names) in ALLOWED.items():
        for name in names:
            found = services[service].methods_by_name[name]
            yield Method(
                path=f"/{found.containing_service.full_name}/{name}",
                cluster=cluster,
                timeout_s=LONG_S.get(name, DEFAULT_S),
                changes=not _is_read(found),
            )


def _is_read(method: MethodDescriptor) -> bool:
    level = method.GetOptions().idempotency_level
    return bool(level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS)


def service_names() -> list[str]:
    """Return the full names of the services."""
    return sorted({method.path.split("/")[1] for method in methods()})


def contracts() -> str:
    """Return the contracts as Envoy's transcoder reads them, in base64."""
    roots = (*FILES, challenge_pb2, error_details_pb2, status_pb2)
    files = descriptor_set(root.DESCRIPTOR for root in roots)
    return base64.b64encode(files.SerializeToString()).decode()
