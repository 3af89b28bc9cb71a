"""The one tree of faults; seckill/status.py says how they travel.

A class's docstring is the message that callers see. What the business expects (sold out, paused,
…) is a PurchaseOutcome, not an error.
"""

import math
import random
from collections.abc import Sequence

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from seckill.v1 import challenge_pb2, errors_pb2, inventory_pb2

# Seconds of queued work that an overloaded service is taken to have when nobody has measured them.
OVERLOADED_WAIT_S = 0.7
# Seconds, before jitter, until an attempt that found too many under way is made again: they are
# answered within milliseconds, but a crowd that returns as soon would be the same crowd.
ADMISSION_WAIT_S = 0.25
# Delays are rounded up to this, so that encoded refusals are few and can be kept.
RETRY_STEP_S = 0.02
# Violations that an error names. Of a long batch all may be wrong, and gRPC's clients drop a status
# with more than 8 KiB of metadata, its reason included.
VIOLATIONS_MAX = 10

Reason = errors_pb2.ErrorReason


def retry_delay_s(wait_s: float) -> float:
    """`wait_s` and up to as much again at random: who is refused together returns apart."""
    jittered_s = wait_s * (1.0 + random.random())  # noqa: S311 - no secret
    return round(max(1, math.ceil(jittered_s / RETRY_STEP_S)) * RETRY_STEP_S, 2)


class SeckillError(Exception):
    """Internal error."""

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
        """`message` defaults to the docstring; `metadata` becomes ErrorInfo.metadata."""
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        self.metadata = metadata or {}

    def details(self) -> Sequence[Message]:
        """Return the detail messages besides ErrorInfo and RetryInfo."""
        return []


class InvalidField(SeckillError):
    """A field violates its constraint."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = errors_pb2.ERROR_REASON_INVALID_FIELD

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        """`violations`: at least one pair of field and problem, e.g. ("sku", "is empty")."""
        told = [f"{field}: {problem}" for field, problem in violations[:VIOLATIONS_MAX]]
        if len(violations) > VIOLATIONS_MAX:
            told.append(f"and {len(violations) - VIOLATIONS_MAX} more")
        super().__init__("; ".join(told))
        self.violations = tuple(violations[:VIOLATIONS_MAX])

    def details(self) -> Sequence[Message]:
        bad = error_details_pb2.BadRequest()
        for field, problem in self.violations:
            bad.field_violations.add(field=field, description=problem)
        return [bad]


class IdentityMissing(SeckillError):
    """The `authorization: Bearer <JWT>` metadata is missing."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = errors_pb2.ERROR_REASON_IDENTITY_MISSING


class IdentityInvalid(SeckillError):
    """The JWT is malformed, expired, or not signed by a known key."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = errors_pb2.ERROR_REASON_IDENTITY_INVALID


class NotAllowed(SeckillError):
    """This identity is not allowed to do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_NOT_ALLOWED


class Denied(SeckillError):
    """An operator has denied this caller."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_DENIED


class PurchaseTokenInvalid(SeckillError):
    """The purchase token is malformed, or its signature is wrong."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_INVALID


class PurchaseTokenExpired(SeckillError):
    """The purchase token has expired; request a new one."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_EXPIRED


class PurchaseTokenForeign(SeckillError):
    """The purchase token was issued to another user or for another sku."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_PURCHASE_TOKEN_FOREIGN


class RiskRefused(SeckillError):
    """This sale does not sell to this caller."""

    # Without the signals: who tries others would learn which of them to change.
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = errors_pb2.ERROR_REASON_RISK_REFUSED


class TooManyUnpaid(SeckillError):
    """Too many orders await payment; pay or give up one first."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_TOO_MANY_UNPAID

    def __init__(self, whose: str, *, orders_max: int) -> None:
        """`whose`: "user", or "fingerprint" of their means of payment."""
        super().__init__(metadata={"whose": whose, "orders_max": str(orders_max)})


class ChallengeRequired(SeckillError):
    """This sale asks for the solution of a challenge first."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_CHALLENGE_REQUIRED

    def __init__(self, challenge: challenge_pb2.Challenge, *, sku: str, problem: str = "") -> None:
        """`problem`: of the solution that came, if one did."""
        # Metadata also keep the encoded status from being kept: each challenge is another.
        super().__init__(metadata={"sku": sku} | ({"problem": problem} if problem else {}))
        self.challenge = challenge

    def details(self) -> Sequence[Message]:
        return [self.challenge]


class SaleNotFound(SeckillError):
    """There is no sale with this sku."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_SALE_NOT_FOUND


class SaleExists(SeckillError):
    """A sale with this sku and different terms already exists."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = errors_pb2.ERROR_REASON_SALE_EXISTS


class SaleStateConflict(SeckillError):
    """The state of the sale does not allow this."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_SALE_STATE


class SaleRefused(SeckillError):
    """The sale is not selling at the moment."""

    # Sent instead of a PurchaseOutcome to callers who name their sku in metadata.
    code = grpc.StatusCode.FAILED_PRECONDITION


class SoldOut(SaleRefused):
    """The sale is sold out."""

    reason = errors_pb2.ERROR_REASON_SOLD_OUT


class NotStarted(SaleRefused):
    """The sale has not started."""

    reason = errors_pb2.ERROR_REASON_NOT_STARTED


class Ended(SaleRefused):
    """The sale has ended."""

    reason = errors_pb2.ERROR_REASON_ENDED


class Paused(SaleRefused):
    """The sale is paused."""

    reason = errors_pb2.ERROR_REASON_PAUSED


# PurchaseOutcome → the fault with the same meaning.
REFUSALS: dict[int, type[SaleRefused]] = {
    inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT: SoldOut,
    inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED: NotStarted,
    inventory_pb2.PURCHASE_OUTCOME_ENDED: Ended,
    inventory_pb2.PURCHASE_OUTCOME_PAUSED: Paused,
}


# PurchaseOutcome → what differs from the first time that the request_id was sent: field, problem.
REQUEST_CHANGES: dict[int, tuple[str, str]] = {
    inventory_pb2.PURCHASE_OUTCOME_OTHER_QUANTITY: (
        "quantity",
        "this request_id was reserved with another quantity",
    ),
    inventory_pb2.PURCHASE_OUTCOME_OTHER_SKU: (
        "sku",
        "this request_id was reserved for another sku",
    ),
}


class SaleNotLoaded(SeckillError):
    """The sale is not loaded in Redis and stays closed until it is rebuilt."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_SALE_NOT_LOADED
    retry_after_s = 5.0


class OrderNotFound(SeckillError):
    """There is no order with this number."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_ORDER_NOT_FOUND


class OrderStateConflict(SeckillError):
    """The state of the order does not allow this."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_ORDER_STATE


class DeadLetterNotFound(SeckillError):
    """No dead letter at this position."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_DEAD_LETTER_NOT_FOUND


class WebhookDeliveryNotFound(SeckillError):
    """No webhook delivery with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_WEBHOOK_DELIVERY_NOT_FOUND


class AuditTooLarge(SeckillError):
    """The sale has more orders than the service may audit."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_AUDIT_TOO_LARGE


class PaymentTooLate(SeckillError):
    """The payment arrived after the order was cancelled."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_TOO_LATE


class PaymentMismatch(SeckillError):
    """The amount or the currency does not match the order."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_MISMATCH


class PaymentUsed(SeckillError):
    """The payment was stated before, for another order or of another amount."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_USED


class PaymentSandboxOff(SeckillError):
    """Buyers cannot state payments: the sandbox is off."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_SANDBOX_OFF


class PaymentSignatureInvalid(SeckillError):
    """The callback's signature is missing, wrong or too old."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = errors_pb2.ERROR_REASON_PAYMENT_SIGNATURE_INVALID


class PaymentProviderNotFound(SeckillError):
    """No payment provider with this name is configured."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_PAYMENT_PROVIDER_NOT_FOUND


class PaymentNotFound(SeckillError):
    """This provider has no payment with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND


class PaymentStateConflict(SeckillError):
    """The state of the payment does not allow this."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_PAYMENT_STATE


class GateEntryNotFound(SeckillError):
    """No list of the gate has such an entry."""

    code = grpc.StatusCode.NOT_FOUND
    reason = errors_pb2.ERROR_REASON_GATE_ENTRY_NOT_FOUND


class GateFull(SeckillError):
    """The gate has as many rules of this kind as it may."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_GATE_FULL


class RateLimited(SeckillError):
    """The rate limit is exceeded."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_RATE_LIMITED

    def __init__(self, bucket: str, *, retry_after_s: float) -> None:
        """`bucket`: the empty token bucket, e.g. "user"."""
        super().__init__(
            f"the rate limit is exceeded: the {bucket} bucket is empty",
            retry_after_s=retry_after_s,
        )
        self.bucket = bucket

    def details(self) -> Sequence[Message]:
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=self.bucket, description=str(self))
        return [quota]


class Overloaded(SeckillError):
    """The service is overloaded."""

    # The caller did nothing wrong: one who is too fast is told RateLimited.
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_OVERLOADED
    retry_after_s = OVERLOADED_WAIT_S

    def __init__(
        self,
        message: str | None = None,
        *,
        wait_s: float = OVERLOADED_WAIT_S,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """`wait_s`: how long the work that is queued will take; jitter is added."""
        super().__init__(message, retry_after_s=retry_delay_s(wait_s), metadata=metadata)


class AdmissionFull(SeckillError):
    """Enough attempts for what remains of the sale are under way; try again."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = errors_pb2.ERROR_REASON_ADMISSION_FULL

    def __init__(self) -> None:
        super().__init__(retry_after_s=retry_delay_s(ADMISSION_WAIT_S))


class DependencyUnavailable(SeckillError):
    """A store or another service does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_DEPENDENCY_UNAVAILABLE
    retry_after_s = 1.0


class ConsumersLagging(SeckillError):
    """Reservations are still on their way to the database."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_PIPELINE_BUSY
    retry_after_s = 2.0


class OutcomeUnknown(SeckillError):
    """The reply was lost, so the outcome is unknown; retry with the same request_id."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN
    retry_after_s = 0.5


class DeadlinePassed(SeckillError):
    """The deadline of the call passed before work on it started."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


class NotImplementedYet(SeckillError):
    """This release does not implement the RPC."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = errors_pb2.ERROR_REASON_NOT_IMPLEMENTED


class KillSwitchOn(SeckillError):
    """All sales are halted by the kill switch."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = errors_pb2.ERROR_REASON_KILL_SWITCH


class RemoteError(SeckillError):
    """Another service's status, passed on unchanged."""

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
