"""Rules of the gate as rows and as messages."""

import json
from datetime import datetime
from typing import Any, NamedTuple

from order_svc.db.database import Row
from order_svc.orders.model import timestamp
from seckill.v1 import gate_pb2 as pb

LISTS = {"allow": pb.GATE_LIST_ALLOW, "deny": pb.GATE_LIST_DENY}
LIST_NAMES = {value: name for name, value in LISTS.items()}
KINDS = {
    "user": pb.GATE_ENTRY_KIND_USER,
    "network": pb.GATE_ENTRY_KIND_NETWORK,
    "user_agent": pb.GATE_ENTRY_KIND_USER_AGENT,
}
KIND_NAMES = {value: name for name, value in KINDS.items()}
CHANGES = {
    "limits_set": pb.GATE_CHANGE_KIND_LIMITS_SET,
    "limits_reset": pb.GATE_CHANGE_KIND_LIMITS_RESET,
    "entry_added": pb.GATE_CHANGE_KIND_ENTRY_ADDED,
    "entry_removed": pb.GATE_CHANGE_KIND_ENTRY_REMOVED,
    "policy_set": pb.GATE_CHANGE_KIND_POLICY_SET,
}


class NewEntry(NamedTuple):
    """An entry to add, checked.

    Attributes:
        list, kind: as the columns have them.
        value: in its one form.
        expires_at: None for never.
    """

    list: str
    kind: str
    value: str
    reason: str
    expires_at: datetime | None


def entry_of(row: Row) -> pb.GateEntry:
    """Return the entry in a row of list_entries.sql."""
    return pb.GateEntry(
        id=row["id"],
        list=LISTS[row["list"]],
        kind=KINDS[row["kind"]],
        value=row["value"],
        reason=row["reason"],
        expire_time=timestamp(row["expires_at"]),
        operator=row["operator"],
        create_time=timestamp(row["at"]),
    )


def entry_text(row: Row | None) -> str:
    """Return an entry as JSON, for the record of changes; null for none."""
    if row is None:
        return "null"
    expires_at = row["expires_at"]
    facts = {name: row[name] for name in ("list", "kind", "value", "reason")}
    facts["expire_time"] = None if expires_at is None else expires_at.isoformat()
    return json.dumps(facts)


def policy_of(row: Row) -> pb.SalePolicy:
    """Return the policy in a row of list_policies.sql."""
    return pb.SalePolicy(**dict(row))


def policy_columns(policy: pb.SalePolicy) -> dict[str, Any]:
    """Return the columns of gate_policies, in statement order."""
    return {
        "sku": policy.sku,
        "challenge_at": policy.challenge_at,
        "refuse_at": policy.refuse_at,
        "require_clean_history": policy.require_clean_history,
        "admission_multiple": policy.admission_multiple,
    }


def policy_text(policy: pb.SalePolicy) -> str:
    """Return a policy as JSON, for the record of changes."""
    return json.dumps(policy_columns(policy))


def asks_for_nothing(policy: pb.SalePolicy) -> bool:
    """Return whether every field of the policy is off."""
    return policy == pb.SalePolicy(sku=policy.sku)


def change_of(row: Row) -> pb.GateChange:
    """Return the change in a row of list_changes.sql."""
    return pb.GateChange(
        revision=row["revision"],
        kind=CHANGES[row["kind"]],
        operator=row["operator"],
        change_time=timestamp(row["at"]),
        before=row["before"],
        after=row["after"],
    )
