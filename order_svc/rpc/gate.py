"""GateRulesService: rules of the gate, changed by operators and watched by gateways."""

import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from order_svc import metrics
from order_svc.gate.checks import (
    check_policy,
    entry_to_add,
    entry_to_remove,
    limits_to_reset,
    limits_to_set,
)
from order_svc.gate.feed import GateRulesFeed
from order_svc.gate.model import KIND_NAMES, LIST_NAMES
from order_svc.gate.repository import GateRepository
from order_svc.rpc.operators import Gate
from order_svc.rpc.sales import check_sku
from seckill.runtime.gate_limits import LIMITS
from seckill.v1 import gate_pb2 as pb
from seckill.v1.gate_pb2_grpc import GateRulesServiceServicer
from seckill.validation import SKU, Violations, decode_page_token, encode_page_token, page_size

GATE_SERVICE = "seckill.v1.GateRulesService"
ID = re.compile(r"[0-9]{1,18}")
REVISION_MAX = 2**63 - 1
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class GateRulesService(GateRulesServiceServicer):
    """Admits operators, checks what they ask for, and does it; streams the rules to gateways.

    What an operator changes is logged with their name, beside its line in gate_changes.
    """

    def __init__(self, rules: GateRepository, feed: GateRulesFeed, *, operators: Gate) -> None:
        self._rules = rules
        self._feed = feed
        self._operators = operators

    async def GetLimits(
        self, _request: pb.GetLimitsRequest, context: Context
    ) -> pb.GetLimitsResponse:
        await self._operators.admit(context)
        revision, rows = await self._rules.limits()
        response = pb.GetLimitsResponse(revision=revision)
        for name, limit in LIMITS.items():
            state = response.limits.add(
                name=name, least=limit.least, most=limit.most, whole=limit.whole
            )
            if row := rows.get(name):
                state.value, state.operator = row["value"], row["operator"]
                state.change_time.FromDatetime(row["at"])
        return response

    async def SetLimits(
        self, request: pb.SetLimitsRequest, context: Context
    ) -> pb.SetLimitsResponse:
        operator = await self._operators.admit(context)
        limits = limits_to_set(request.limits)
        revision = await self._rules.set_limits(limits, operator=operator)
        self._changed("limits set", revision, operator=operator, limits=limits)
        return pb.SetLimitsResponse(revision=revision)

    async def ResetLimits(
        self, request: pb.ResetLimitsRequest, context: Context
    ) -> pb.ResetLimitsResponse:
        operator = await self._operators.admit(context)
        names = limits_to_reset(request.names)
        revision, reset = await self._rules.reset_limits(names, operator=operator)
        self._changed("limits reset", revision, operator=operator, names=reset)
        return pb.ResetLimitsResponse(revision=revision, names=reset)

    async def AddListEntry(
        self, request: pb.AddListEntryRequest, context: Context
    ) -> pb.AddListEntryResponse:
        operator = await self._operators.admit(context)
        new = entry_to_add(request)
        revision, entry = await self._rules.add_entry(new, operator=operator)
        self._changed("list entry added", revision, operator=operator, id=entry.id, list=new.list)
        return pb.AddListEntryResponse(entry=entry, revision=revision)

    async def RemoveListEntry(
        self, request: pb.RemoveListEntryRequest, context: Context
    ) -> pb.RemoveListEntryResponse:
        operator = await self._operators.admit(context)
        kind, value = entry_to_remove(request)
        revision, entry = await self._rules.remove_entry(kind, value, operator=operator)
        self._changed("list entry removed", revision, operator=operator, id=entry.id)
        return pb.RemoveListEntryResponse(entry=entry, revision=revision)

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: Context
    ) -> pb.ListEntriesResponse:
        await self._operators.admit(context)
        violations = Violations()
        if request.list and request.list not in LIST_NAMES:
            violations.add("list", "must be ALLOW or DENY, or left out for both")
        if request.kind and request.kind not in KIND_NAMES:
            violations.add("kind", "must be USER, NETWORK or USER_AGENT, or left out for all")
        violations.check()
        limit = page_size(request.page_size)
        found = await self._rules.entries(
            which=LIST_NAMES.get(request.list, ""),
            kind=KIND_NAMES.get(request.kind, ""),
            after=int(decode_page_token(request.page_token, ID) or 0),
            # One more than asked for tells whether there is a next page.
            limit=limit + 1,
        )
        token = encode_page_token(str(found[limit - 1].id)) if len(found) > limit else ""
        return pb.ListEntriesResponse(entries=found[:limit], next_page_token=token)

    async def SetSalePolicy(
        self, request: pb.SetSalePolicyRequest, context: Context
    ) -> pb.SetSalePolicyResponse:
        operator = await self._operators.admit(context)
        policy = request.policy
        check_policy(policy)
        revision = await self._rules.set_policy(policy, operator=operator)
        self._changed("sale policy set", revision, operator=operator, sku=policy.sku)
        return pb.SetSalePolicyResponse(policy=policy, revision=revision)

    async def GetSalePolicy(
        self, request: pb.GetSalePolicyRequest, context: Context
    ) -> pb.GetSalePolicyResponse:
        await self._operators.admit(context)
        check_sku(request.sku)
        return pb.GetSalePolicyResponse(policy=await self._rules.policy(request.sku))

    async def ListSalePolicies(
        self, request: pb.ListSalePoliciesRequest, context: Context
    ) -> pb.ListSalePoliciesResponse:
        await self._operators.admit(context)
        limit = page_size(request.page_size)
        found = await self._rules.policies(
            after=decode_page_token(request.page_token, SKU), limit=limit + 1
        )
        token = encode_page_token(found[limit - 1].sku) if len(found) > limit else ""
        return pb.ListSalePoliciesResponse(policies=found[:limit], next_page_token=token)

    async def ListGateChanges(
        self, request: pb.ListGateChangesRequest, context: Context
    ) -> pb.ListGateChangesResponse:
        await self._operators.admit(context)
        limit = page_size(request.page_size)
        found = await self._rules.changes(
            before=int(decode_page_token(request.page_token, ID) or REVISION_MAX), limit=limit + 1
        )
        token = encode_page_token(str(found[limit - 1].revision)) if len(found) > limit else ""
        return pb.ListGateChangesResponse(changes=found[:limit], next_page_token=token)

    async def WatchGateRules(
        self, _request: pb.WatchGateRulesRequest, _context: Context
    ) -> AsyncIterator[pb.WatchGateRulesResponse]:
        async for message in self._feed.stream():
            yield message

    def _changed(self, what: str, revision: int, **facts: object) -> None:
        metrics.GATE_CHANGES_TOTAL.inc()
        log.info(what, revision=revision, **facts)
        self._feed.changed()
