"""Faults as statuses, and back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from seckill import errors
from seckill.v1 import errors_pb2

NAMES = set(errors_pb2.ErrorReason.keys())


def subclasses(kind: type[errors.SeckillError]) -> list[type[errors.SeckillError]]:
    """All kinds of faults below this one."""
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


PLAIN = [
    kind
    for kind in subclasses(errors.SeckillError)
    if kind.__module__ == "seckill.errors"
    and kind
    not in (errors.InvalidField, errors.RateLimited, errors.RemoteError, errors.SaleRefused)
]


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
def test_each_fault_travels_with_its_reason(kind: type[errors.SeckillError]) -> None:
    """Code, message and ErrorInfo; RetryInfo wherever coming back helps."""
    fault = kind(metadata={"sku": "s"})
    status = status_pb2.Status.FromString(errors.encode_details(fault))
    assert kind.code is not grpc.StatusCode.UNKNOWN
    assert status.code == kind.code.value[0]
    assert status.message == str(fault) != ""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "seckill"
    assert info.metadata["sku"] == "s"
    assert f"ERROR_REASON_{info.reason}" in NAMES
    kinds = [detail.TypeName() for detail in status.details]
    retries = kinds.count("google.rpc.RetryInfo")
    assert retries == (kind.retry_after_s is not None)
    if kind.code is grpc.StatusCode.UNAVAILABLE:
        assert retries


def test_every_reason_is_used() -> None:
    """A reason in the contract that nothing raises would be a promise nobody keeps."""
    kinds: list[type[errors.SeckillError]] = [
        *PLAIN,
        errors.SeckillError,
        errors.InvalidField,
        errors.RateLimited,
    ]
    raised = {kind.reason for kind in kinds}
    assert raised == set(errors_pb2.ErrorReason.values()) - {0}


@pytest.mark.parametrize(("delay_s", "header"), [(0.25, "1"), (1.0, "1"), (5.2, "6")])
def test_when_to_come_back_is_told_twice_and_passed_on(delay_s: float, header: str) -> None:
    """RetryInfo to the millisecond, `retry-after` in whole seconds; another stage keeps both."""
    told = errors.trailing_metadata(errors.RateLimited("user", retry_after_s=delay_s))
    assert dict(told)["retry-after"] == header
    received = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata(*told)
    )
    passed_on = errors.from_rpc_error(received, stage="inventory")
    assert errors.trailing_metadata(passed_on) == told


def test_who_need_not_come_back_is_not_asked_to() -> None:
    """Details alone."""
    told = errors.trailing_metadata(errors.SaleNotFound())
    assert [key for key, _ in told] == [errors.DETAILS_KEY]


def test_broken_fields_and_empty_buckets_are_named() -> None:
    """BadRequest lists fields, QuotaFailure the bucket."""
    status = status_pb2.Status.FromString(
        errors.encode_details(errors.InvalidField([("sku", "is empty"), ("quantity", "is 0")]))
    )
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["sku", "quantity"]
    status = status_pb2.Status.FromString(
        errors.encode_details(errors.RateLimited("user", retry_after_s=0.25))
    )
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(quota)
    assert quota.violations[0].subject == "user"
    assert status.details[2].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250
