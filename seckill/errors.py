"""One tree of faults, and the one table that turns them into gRPC statuses with details.

What the business expects (sold out, paused, …) is a PurchaseOutcome, not an error. Source of the
detail messages: google/rpc/error_details.proto, AIP-193.
"""

import math
from collections.abc import Sequence

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from seckill.v1 import errors_pb2, inventory_pb2

DOMAIN = "seckill"
DETAILS_KEY = "grpc-status-details-bin"
# Beside RetryInfo, in whole seconds: Envoy makes an HTTP header of it for callers in JSON.
RETRY_AFTER_KEY = "retry-after"

Reason = errors_pb2.ErrorReason
TrailingMetadata = tuple[tuple[str, str | bytes], ...]


class SeckillError(Exception):
    """The mesh has a defect."""

    code = grpc.StatusCode.INTERNAL
    reason = errors_pb2.ERROR_REASON_INTERNAL
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_s: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """`message` defaults to the docstring; `metadata` goes into ErrorInfo.metadata."""
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        self.metadata = metadata or {}

    def details(self) -> list[error_details_pb2.QuotaFailure | error_details_pb2.BadRequest]:
        """Further detail messages beside ErrorInfo and RetryInfo."""
        return []


class InvalidField(SeckillError):
    """A field breaks its constraint."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = errors_pb2.ERROR_REASON_INVALID_FIELD

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        """`violations`: (field, what is wrong with it) pairs, at least one."""
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in violations))
        self.violations = tuple(violations)

    def details(self) -> list[error_details_pb2.QuotaFailure | error_details_pb2.BadRequest]:
        bad = error_details_pb2.BadRequest()
        for field, problem in self.violations:
            bad.field_violations.add(field=field, description=problem)
        return [bad]


class IdentityMissing(SeckillError):
    """Metadata `authorization: Bearer <JWT>` is missing."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = errors_pb2.ERROR_REASON_IDENTITY_MISSING


class IdentityInvalid(SeckillError):
    """The JWT is malformed, expired, or not signed by a known key."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = errors_pb2.ERROR_REASON_IDENTITY_INVALID


class NotAllowed(SeckillError):
    """This identity may not do that."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_NOT_ALLOWED


class PurchaseTokenInvalid(SeckillError):
    """The purchase token is malformed or its signature is wrong."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_INVALID


class PurchaseTokenExpired(SeckillError):
    """The purchase token has expired; ask for a new one."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_EXPIRED


class PurchaseTokenForeign(SeckillError):
    """The purchase token was issued to another user or for another sku."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_FOREIGN


class SaleNotFound(SeckillError):
    """No sale with this sku."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_SALE_NOT_FOUND


class SaleExists(SeckillError):
    """A sale with this sku and other terms exists."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = errors_pb2.ERROR_REASON_SALE_EXISTS


class SaleStateConflict(SeckillError):
    """The sale's state does not allow this."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_SALE_STATE


class SaleRefused(SeckillError):
    """The sale sells nothing at this moment."""

    # What callers who name their sku in metadata are told in the place of a PurchaseOutcome.
    code = grpc.StatusCode.FAILED_PRECONDITION


class SoldOut(SaleRefused):
    """The sale is sold out."""

    reason = errors_pb2.ERROR_REASON_SOLD_OUT


class NotStarted(SaleRefused):
    """The sale has not begun."""

    reason = errors_pb2.ERROR_REASON_NOT_STARTED


class Ended(SaleRefused):
    """The sale is over."""

    reason = errors_pb2.ERROR_REASON_ENDED


class Paused(SaleRefused):
    """The sale is paused."""

    reason = errors_pb2.ERROR_REASON_PAUSED


# PurchaseOutcome → the status that says the same.
REFUSALS: dict[int, type[SaleRefused]] = {
    inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT: SoldOut,
    inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED: NotStarted,
    inventory_pb2.PURCHASE_OUTCOME_ENDED: Ended,
    inventory_pb2.PURCHASE_OUTCOME_PAUSED: Paused,
}


class SaleNotLoaded(SeckillError):
    """The sale is not loaded into Redis; it stays closed until it is rebuilt."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_SALE_NOT_LOADED
    retry_after_s = 5.0


class OrderNotFound(SeckillError):
    """No order with this number."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_ORDER_NOT_FOUND


class OrderStateConflict(SeckillError):
    """The order's state does not allow this."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_ORDER_STATE


class PaymentTooLate(SeckillError):
    """The payment arrived after the order was cancelled."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_TOO_LATE


class PaymentMismatch(SeckillError):
    """The amount or the currency differs from the order's."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_MISMATCH


class RateLimited(SeckillError):
    """A token bucket is empty."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_RATE_LIMITED

    def __init__(self, bucket: str, *, retry_after_s: float) -> None:
        """`bucket`: which one, e.g. "user"."""
        super().__init__(f"the {bucket} bucket is empty", retry_after_s=retry_after_s)
        self.bucket = bucket

    def details(self) -> list[error_details_pb2.QuotaFailure | error_details_pb2.BadRequest]:
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=self.bucket, description=str(self))
        return [quota]


class Overloaded(SeckillError):
    """The stage sheds load."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_OVERLOADED
    retry_after_s = 1.0


class DependencyUnavailable(SeckillError):
    """A store or a stage does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_DEPENDENCY_UNAVAILABLE
    retry_after_s = 1.0


class PipelineBusy(SeckillError):
    """Reservations are still on their way to the database."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_PIPELINE_BUSY
    retry_after_s = 2.0


class OutcomeUnknown(SeckillError):
    """The reply was lost on the way; ask again with the same request_id."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN
    retry_after_s = 0.5


class DeadlinePassed(SeckillError):
    """The caller's deadline passed before the work was begun."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


class NotImplementedYet(SeckillError):
    """This release does not serve the RPC."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = errors_pb2.ERROR_REASON_NOT_IMPLEMENTED


class KillSwitchOn(SeckillError):
    """All sales are halted by the kill switch."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_KILL_SWITCH


class RemoteError(SeckillError):
    """Another stage's status, passed on as it came."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        encoded_details: bytes,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code
        self.encoded_details = encoded_details


def reason_name(reason: int) -> str:
    """The name that stands in ErrorInfo.reason."""
    return errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")  # type: ignore[arg-type]


def encode_details(error: SeckillError) -> bytes:
    """The serialized google.rpc.Status that travels as `grpc-status-details-bin`."""
    if isinstance(error, RemoteError):
        return error.encoded_details
    info = error_details_pb2.ErrorInfo(
        reason=reason_name(error.reason), domain=DOMAIN, metadata=error.metadata
    )
    details = [info, *error.details()]
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def trailing_metadata(error: SeckillError) -> TrailingMetadata:
    """What to send as trailing metadata with the error's code and message."""
    details = (DETAILS_KEY, encode_details(error))
    if error.retry_after_s is None:
        return (details,)
    return (details, (RETRY_AFTER_KEY, str(math.ceil(error.retry_after_s))))


def from_rpc_error(error: grpc.aio.AioRpcError, *, stage: str) -> SeckillError:
    """What a failed call of another stage means to our own caller.

    A status that carries our details is passed on; anything else that a broken connection or a
    passed deadline can cause is DependencyUnavailable naming `stage`.
    """
    metadata = dict(error.trailing_metadata() or ())
    encoded = metadata.get(DETAILS_KEY)
    if isinstance(encoded, bytes):
        seconds = str(metadata.get(RETRY_AFTER_KEY, ""))
        return RemoteError(
            error.code(),
            error.details() or "",
            encoded,
            retry_after_s=float(seconds) if seconds.isdecimal() else None,
        )
    return DependencyUnavailable(f"{stage} does not answer", metadata={"stage": stage})


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """ErrorInfo.reason of a status received from the mesh, or None where it carries none."""
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
    return None
