"""Sends any bytes to any method of a mesh, and judges the answers by what the contract says."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from devstack.mesh import REPOSITORY_ROOT
from seckill.status import DETAILS_KEY, DOMAIN
from seckill.v1 import (
    gate_pb2,
    gateway_admin_pb2,
    gateway_pb2,
    hoarding_pb2,
    inventory_pb2,
    order_admin_pb2,
    order_pb2,
    preflight_pb2,
    rollback_pb2,
)
from tests.kits.mesh import Mesh
from tests.kits.secure.permitted import permitted_stage

# By the service that serves them; a new file of contracts is named here.
FILES = {
    "gateway": gateway_pb2,
    "gateway admin": gateway_admin_pb2,
    "inventory": inventory_pb2,
    "order": order_pb2,
    "order admin": order_admin_pb2,
    "order gate": gate_pb2,
    "order hoarding": hoarding_pb2,
    "order preflight": preflight_pb2,
    "rollback": rollback_pb2,
}
PROVIDERS = [
    {
        "name": "psp",
        "scheme": "standard-webhooks",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    },
    {"name": "stripe", "scheme": "stripe", "secret": "whsec_stripe_signs_with_the_text"},
]
PROCESSES = ("gateway", "inventory", "order", "rollback")
CALL_S = 20.0
# A watch ends by its caller's deadline; what it answers to bad input comes at once.
WATCH_S = 0.3
MESSAGES_MAX = 3
# A loaded machine may cause these; an input that causes them causes them each time.
TRANSIENT = {"DEPENDENCY_UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "OVERLOADED"}
TRIES = 4


def _documented() -> dict[str, str]:
    """Return the status of each reason, as the comments of errors.proto say."""
    text = (REPOSITORY_ROOT / "protos/seckill/v1/errors.proto").read_text()
    pattern = re.compile(r"// ([A-Z_]+): (?:.|\n)*?ERROR_REASON_([A-Z_]+) =")
    return {reason: status for status, reason in pattern.findall(text)}


DOCUMENTED = _documented()


class Answer(NamedTuple):
    """How a call ended.

    Attributes:
        reason: of its ErrorInfo; empty for none.
        fields: that its BadRequest names.
    """

    code: grpc.StatusCode
    reason: str
    fields: Sequence[str]
    message: str


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Return each method of each service, with the name of the process that serves it."""
    for name, module in FILES.items():
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield name.split()[0], method


class AnyCaller:
    """Calls methods of a mesh with raw bytes; a context manager."""

    def __init__(self, mesh: Mesh, *, known: Mapping[str, Sequence[str]], buyer: str) -> None:
        """`known`: by a field's name, values that lead further than random ones."""
        self.mesh = mesh
        self.known = known
        token = mesh.issuer.token
        self._identities: list[str] = [
            token(buyer),
            token("shop", roles=["service"]),
            token("operator", roles=["operator", "service"]),
        ]
        self._channels: dict[tuple[str, str], grpc.Channel] = {}
        self._read = dict.fromkeys(PROCESSES, 0)

    def __enter__(self) -> Self:
        self.new_lines()
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels.values():
            channel.close()

    def identity(self, role: int) -> tuple[tuple[str, str], ...]:
        """Return metadata: of a buyer, a service, an operator, and for others none."""
        if role >= len(self._identities):
            return ()
        return (("authorization", f"Bearer {self._identities[role]}"),)

    def ask(self, process: str, method: MethodDescriptor, payload: bytes, role: int) -> Answer:
        """Return the answer to a serialized request, a transient one only if it comes each time."""
        for _ in range(TRIES):
            answer = self._ask(process, method, payload, role)
            if answer.reason not in TRANSIENT and answer.reason:
                break
        return answer

    def _channel(self, process: str, path: str) -> grpc.Channel:
        """Return a channel of a stage that may make this call."""
        stage = permitted_stage(path)
        if (process, stage) not in self._channels:
            address, credentials = self.mesh.address(process), self.mesh.call_credentials(stage)
            self._channels[process, stage] = (
                grpc.insecure_channel(address)
                if credentials is None
                else grpc.secure_channel(address, credentials)
            )
        return self._channels[process, stage]

    def _ask(self, process: str, method: MethodDescriptor, payload: bytes, role: int) -> Answer:
        path = f"/{method.containing_service.full_name}/{method.name}"
        channel, metadata = self._channel(process, path), self.identity(role)
        try:
            if method.server_streaming:
                watch: Any = channel.unary_stream(path)
                stream = watch(payload, metadata=metadata, timeout=WATCH_S)
                for _ in itertools.islice(stream, MESSAGES_MAX):
                    pass
                stream.cancel()
            else:
                ask: Any = channel.unary_unary(path)
                ask(payload, metadata=metadata, timeout=CALL_S)
        except grpc.RpcError as error:
            if method.server_streaming and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return OK
            return _answer_of(error)
        return OK

    def new_lines(self) -> list[str]:
        """Return what the services have logged since the last call."""
        lines: list[str] = []
        for name in self._read:
            text = self.mesh.log(name)
            lines += text[self._read[name] :].splitlines()
            self._read[name] = len(text)
        return lines


OK = Answer(grpc.StatusCode.OK, "OK", (), "")


def _answer_of(error: Any) -> Answer:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for packed in status_pb2.Status.FromString(value).details:
                packed.Unpack(info)
                packed.Unpack(bad)
    reason = info.reason if info.domain == DOMAIN else ""
    fields = [violation.field for violation in bad.field_violations]
    return Answer(error.code(), reason, fields, error.details() or "")


def problem(kind: Descriptor, answer: Answer) -> str:
    """Return what is wrong with an answer to a request of this type; empty if nothing is."""
    if answer is OK:
        return ""
    documented = DOCUMENTED.get(answer.reason)
    if documented is None:
        return "has no ErrorInfo with a documented reason"
    if answer.code.name != documented:
        return f"is documented as {documented}"
    if answer.reason in TRANSIENT | {"INTERNAL"}:
        return "is no answer to an input"
    if answer.reason == "INVALID_FIELD":
        unknown = [field for field in answer.fields if not _has_field(kind, field)]
        if unknown or not answer.fields:
            return f"names no field of the request: {unknown}"
    return ""


def _has_field(kind: Descriptor, path: str) -> bool:
    """Return whether a path as BadRequest names it is in a message of this type."""
    if path == "request":
        return True
    names = re.sub(r"\[\d+\]", "", path).split(".")
    inside: Descriptor | None = kind
    for name in names:
        field = None if inside is None else inside.fields_by_name.get(name)
        if field is None:
            return False
        inside = field.message_type
    return True
