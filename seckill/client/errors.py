"""Why a call of the client failed: a small tree, one exception for each thing a caller can do."""

from collections.abc import Mapping
from typing import Protocol, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from seckill.v1 import challenge_pb2

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"


class CallFailed(Exception):
    """A call failed, in the mesh or on the way; the base of all exceptions of this package.

    Attributes:
        code: the gRPC status.
        reason: ErrorInfo.reason, e.g. "RATE_LIMITED" (seckill/v1/errors.proto lists them); empty
            if the status did not come from the mesh itself.
        message: the status message.
        metadata: ErrorInfo.metadata, e.g. {"sku": "phone"}.
        retry_after_s: pause that the reply asked for, in seconds; None if it named none.
        retryable: whether the server allows the call to be repeated.
        challenge: what CHALLENGE_REQUIRED asks to be solved; None with other reasons.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        retryable: bool = True,
        challenge: challenge_pb2.Challenge | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.retryable = retryable
        self.challenge = challenge

    def __str__(self) -> str:
        return ": ".join(part for part in (self.code.name, self.reason, self.message) if part)


class InvalidRequest(CallFailed):
    """A field breaks its constraint; the message names it."""


class IdentityRejected(CallFailed):
    """The identity is missing, expired, or not signed by a known key."""


class NotAllowed(CallFailed):
    """This identity may not do that."""


class NotFound(CallFailed):
    """No sale or order of that name."""


class StateConflict(CallFailed):
    """The state of the sale, the order or the mesh does not allow this, e.g. KILL_SWITCH."""


class TryLater(CallFailed):
    """The mesh did not answer, or was too busy, until the call's time was over."""


class OutcomeUnknown(TryLater):
    """A purchase was sent and its answer lost: the order may exist.

    `buy(..., request_id=error.request_id)` repeats the same attempt, and is told what became of it.

    Attributes:
        request_id: of the attempt.
    """

    request_id = ""

    @classmethod
    def after(cls, failure: CallFailed, *, request_id: str) -> Self:
        """Return the error for an attempt whose last call failed with `failure`."""
        unknown = cls(
            failure.message,
            code=failure.code,
            reason=failure.reason,
            metadata=failure.metadata,
            retry_after_s=failure.retry_after_s,
        )
        unknown.request_id = request_id
        return unknown


class Status(Protocol):
    """What both kinds of gRPC error tell."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...


_BY_CODE: dict[grpc.StatusCode, type[CallFailed]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: IdentityRejected,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: StateConflict,
    grpc.StatusCode.ALREADY_EXISTS: StateConflict,
    grpc.StatusCode.UNAVAILABLE: TryLater,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TryLater,
    grpc.StatusCode.DEADLINE_EXCEEDED: TryLater,
    grpc.StatusCode.CANCELLED: TryLater,
}
# What gRPC itself says of a connection that broke. From the mesh they carry a reason.
_BROKEN_CONNECTION = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def call_failed(
    code: grpc.StatusCode, message: str, trailing: Mapping[str, str | bytes]
) -> CallFailed:
    """Return the exception for a status, with what its details and trailing metadata say."""
    info, retry_after_s, challenge = _details(trailing.get(DETAILS_KEY))
    pushback_s = _pushback_s(trailing.get(PUSHBACK_KEY))
    if pushback_s is not None and pushback_s >= 0:
        retry_after_s = pushback_s
    kind = _BY_CODE.get(code, CallFailed)
    if code in _BROKEN_CONNECTION and not info.reason:
        kind = TryLater
    return kind(
        message,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        retry_after_s=retry_after_s,
        retryable=pushback_s is None or pushback_s >= 0,
        challenge=challenge,
    )


def _details(
    encoded: str | bytes | None,
) -> tuple[error_details_pb2.ErrorInfo, float | None, challenge_pb2.Challenge | None]:
    """Return what the details say: the reason, the pause in seconds, the challenge."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    challenge: challenge_pb2.Challenge | None = None
    try:
        status = status_pb2.Status.FromString(encoded if isinstance(encoded, bytes) else b"")
        for detail in status.details:
            if detail.Unpack(retry):
                retry_after_s = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
            elif detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
            elif detail.Is(challenge_pb2.Challenge.DESCRIPTOR):
                challenge = challenge_pb2.Challenge()
                detail.Unpack(challenge)
    except DecodeError:
        return error_details_pb2.ErrorInfo(), None, None
    return info, retry_after_s, challenge


def _pushback_s(value: str | bytes | None) -> float | None:
    """Seconds of the server's pushback; negative if it forbids a repetition (gRFC A6)."""
    if value is None:
        return None
    try:
        return int(value) / 1000
    except ValueError:
        return -1.0
