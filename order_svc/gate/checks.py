"""Checks what operators write into the rules of the gate, and brings it into its one form."""

import ipaddress
import math
import re
from collections.abc import Iterable
from datetime import UTC

from order_svc.gate.model import KIND_NAMES, LIST_NAMES, NewEntry
from seckill.runtime.gate_limits import LIMITS
from seckill.v1 import gate_pb2 as pb
from seckill.validation import Violations

LIMITS_AT_ONCE_MAX = 64
# Of a name that is none, what its error repeats: a status has room for 8 KiB.
NAME_CHARACTERS_SHOWN = 40
REASON_CHARACTERS_MAX = 500
NETWORK_CHARACTERS_MAX = 64
# Networks with a shorter prefix: a slip would deny a continent. The kill switch stops everyone.
IPV4_PREFIX_MIN, IPV6_PREFIX_MIN = 8, 16
# Of an IPv6 address that stands for an IPv4 one.
MAPPED_PREFIX = 96
# Shorter parts are in nearly every user agent.
USER_AGENT_CHARACTERS_MIN, USER_AGENT_CHARACTERS_MAX = 4, 128
USER_AGENT = re.compile(r"[ -~]+")
SCORE_MAX = 100
MULTIPLE_MAX = 1_000.0


def limits_to_set(limits: Iterable[pb.GateLimit]) -> dict[str, float]:
    """Return values by name; raise InvalidField naming each wrong one."""
    violations = Violations()
    values: dict[str, float] = {}
    given = list(limits)
    violations.between("limits", len(given), 1, LIMITS_AT_ONCE_MAX)
    for number, limit in enumerate(given[:LIMITS_AT_ONCE_MAX]):
        name, known = limit.name, LIMITS.get(limit.name)
        if known is None:
            violations.add(f"limits[{number}].name", f"{_shown(name)} is no limit")
        elif name in values:
            violations.add(f"limits[{number}].name", f"{name} is named twice")
        elif problem := known.problem(limit.value):
            violations.add(f"limits[{number}].value", f"{name} {problem}")
        values[name] = limit.value
    violations.check()
    return values


def _shown(name: str) -> str:
    """Return a name that may be anything, short and in printable characters."""
    return ascii(name[:NAME_CHARACTERS_SHOWN])


def limits_to_reset(names: Iterable[str]) -> list[str]:
    """Return the names, each once; raise InvalidField naming each that is no limit."""
    violations = Violations()
    wanted = list(names)
    for number, name in enumerate(wanted):
        if name not in LIMITS:
            violations.add(f"names[{number}]", f"{_shown(name)} is no limit")
    violations.check()
    return list(dict.fromkeys(wanted))


def entry_to_add(request: pb.AddListEntryRequest) -> NewEntry:
    """Return the entry in its one form; raise InvalidField naming each wrong field."""
    violations = Violations()
    which = LIST_NAMES.get(request.list, "")
    if not which:
        violations.add("list", "must be ALLOW or DENY")
    kind, value = _named(violations, request.kind, request.value)
    violations.text("reason", request.reason, REASON_CHARACTERS_MAX)
    if not request.reason.strip():
        violations.add("reason", "must say why")
    expires_at = None
    if request.HasField("expire_time") and violations.timestamp("expire_time", request.expire_time):
        expires_at = request.expire_time.ToDatetime(UTC)
    violations.check()
    return NewEntry(which, kind, value, request.reason, expires_at)


def entry_to_remove(request: pb.RemoveListEntryRequest) -> tuple[str, str]:
    """Return kind and value in their one form; raise InvalidField naming each wrong field."""
    violations = Violations()
    named = _named(violations, request.kind, request.value)
    violations.check()
    return named


def _named(
    violations: Violations, kind: "pb.GateEntryKind.ValueType", value: str
) -> tuple[str, str]:
    name = KIND_NAMES.get(kind, "")
    if name == "user":
        violations.user_id("value", value)
    elif name == "network":
        value = _network(violations, value)
    elif name == "user_agent":
        _check_user_agent(violations, value)
        value = value.lower()
    else:
        violations.add("kind", "must be USER, NETWORK or USER_AGENT")
    return name, value


def _network(violations: Violations, text: str) -> str:
    """Return a network in its one form; one of mapped IPv4 addresses as IPv4."""
    try:
        if len(text) > NETWORK_CHARACTERS_MAX or "%" in text:
            raise ValueError("is none")
        network = ipaddress.ip_network(text)
    except ValueError:
        violations.add(
            "value", "must be a network like 192.0.2.0/24 or 2001:db8::/32, no bits beyond its /n"
        )
        return text
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= MAPPED_PREFIX:
            network = ipaddress.ip_network((mapped, network.prefixlen - MAPPED_PREFIX))
    least = IPV4_PREFIX_MIN if network.version == 4 else IPV6_PREFIX_MIN
    if network.prefixlen < least:
        violations.add("value", f"must have a prefix of /{least} or longer: it names too many")
    return str(network)


def _check_user_agent(violations: Violations, text: str) -> None:
    fits = len(text.strip()) >= USER_AGENT_CHARACTERS_MIN and len(text) <= USER_AGENT_CHARACTERS_MAX
    if not fits or USER_AGENT.fullmatch(text) is None:
        violations.add(
            "value",
            f"must be {USER_AGENT_CHARACTERS_MIN} to {USER_AGENT_CHARACTERS_MAX} printable ASCII"
            " characters",
        )


def check_policy(policy: pb.SalePolicy) -> None:
    """Raise InvalidField naming each wrong field of `policy`."""
    violations = Violations()
    violations.sku("policy.sku", policy.sku)
    violations.between("policy.challenge_at", policy.challenge_at, 0, SCORE_MAX)
    violations.between("policy.refuse_at", policy.refuse_at, 0, SCORE_MAX)
    if 0 < policy.refuse_at < policy.challenge_at:
        violations.add("policy.refuse_at", "must not be below challenge_at")
    multiple = policy.admission_multiple
    if not math.isfinite(multiple) or (multiple != 0 and not 1 <= multiple <= MULTIPLE_MAX):
        violations.add("policy.admission_multiple", f"must be 0, or 1 to 1,000, not {multiple}")
    violations.check()
