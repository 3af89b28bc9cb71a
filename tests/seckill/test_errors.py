"""Faults as statuses, and back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from seckill import errors, status
from seckill.v1 import challenge_pb2, errors_pb2

NAMES = set(errors_pb2.ErrorReason.keys())


def subclasses(kind: type[errors.SeckillError]) -> list[type[errors.SeckillError]]:
    """All kinds of faults below this one."""
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


# Those that need more than metadata to be made.
FURTHER = [
    errors.InvalidField([("field", "problem")]),
    errors.RateLimited("user", retry_after_s=1.0),
    errors.TooManyUnpaid("user", orders_max=1),
    errors.ChallengeRequired(challenge_pb2.Challenge(), sku="s"),
    errors.AdmissionFull(),
]
PLAIN = [
    kind
    for kind in subclasses(errors.SeckillError)
    if kind.__module__ == "seckill.errors"
    and kind not in (*map(type, FURTHER), errors.RemoteError, errors.SaleRefused)
]


@pytest.mark.parametrize(
    "fault",
    [*(kind(metadata={"sku": "s"}) for kind in PLAIN), *FURTHER],
    ids=lambda fault: type(fault).__name__,
)
def test_each_fault_travels_with_its_reason(fault: errors.SeckillError) -> None:
    """Code, message and ErrorInfo; RetryInfo if a retry helps."""
    kind = type(fault)
    answer = status_pb2.Status.FromString(status.encode_details(fault))
    assert kind.code is not grpc.StatusCode.UNKNOWN
    assert answer.code == kind.code.value[0]
    assert answer.message == str(fault) != ""
    info = error_details_pb2.ErrorInfo()
    assert answer.details[0].Unpack(info)
    assert info.domain == "seckill"
    assert info.metadata == fault.metadata
    assert f"ERROR_REASON_{info.reason}" in NAMES
    kinds = [detail.TypeName() for detail in answer.details]
    retries = kinds.count("google.rpc.RetryInfo")
    assert retries == (fault.retry_after_s is not None)
    if kind.code is grpc.StatusCode.UNAVAILABLE:
        assert retries


def test_every_reason_is_used() -> None:
    """A reason in the contract that nothing raises would be a promise that is not kept."""
    kinds: list[type[errors.SeckillError]] = [
        *PLAIN,
        *map(type, FURTHER),
        errors.SeckillError,
    ]
    raised = {kind.reason for kind in kinds}
    assert raised == set(errors_pb2.ErrorReason.values()) - {0}


@pytest.mark.parametrize(("delay_s", "header"), [(0.25, "1"), (1.0, "1"), (5.2, "6")])
def test_the_retry_delay_is_sent_twice_and_passed_on(delay_s: float, header: str) -> None:
    """RetryInfo to the millisecond, `retry-after` in whole seconds; another service keeps both."""
    told = status.trailing_metadata(errors.RateLimited("user", retry_after_s=delay_s))
    assert dict(told)["retry-after"] == header
    received = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata(*told)
    )
    passed_on = status.from_rpc_error(received, service="inventory")
    assert status.trailing_metadata(passed_on) == told


def test_a_failure_not_worth_retrying_has_no_retry_info() -> None:
    """The details are all there is."""
    told = status.trailing_metadata(errors.SaleNotFound())
    assert [key for key, _ in told] == [status.DETAILS_KEY]


def test_broken_fields_and_empty_buckets_are_named() -> None:
    """BadRequest lists fields, QuotaFailure the bucket."""
    answer = status_pb2.Status.FromString(
        status.encode_details(errors.InvalidField([("sku", "is empty"), ("quantity", "is 0")]))
    )
    bad = error_details_pb2.BadRequest()
    assert answer.details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["sku", "quantity"]
    answer = status_pb2.Status.FromString(
        status.encode_details(errors.RateLimited("user", retry_after_s=0.25))
    )
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert answer.details[1].Unpack(quota)
    assert quota.violations[0].subject == "user"
    assert answer.details[2].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_an_error_with_many_violations_still_fits_its_metadata() -> None:
    """The first ten are named, the others counted: gRPC's clients drop what has more than 8 KiB."""
    bad = errors.InvalidField(
        [(f"order_nos[{index}]", "is no order number " * 5) for index in range(1024)]
    )
    assert len(bad.violations) == 10
    assert "and 1014 more" in str(bad)
    sent = sum(len(key) + len(value) for key, value in status.trailing_metadata(bad))
    assert sent + len(str(bad)) < 8 * 1024
