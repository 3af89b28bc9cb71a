"""How faults travel: gRPC statuses with details, encoded and read.

Source of the detail messages: google/rpc/error_details.proto, AIP-193.
"""

import math
from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seckill.errors import DependencyUnavailable, RemoteError, SeckillError
from seckill.v1 import errors_pb2

DOMAIN = "seckill"
DETAILS_KEY = "grpc-status-details-bin"
# Repeats RetryInfo in whole seconds: Envoy turns it into an HTTP header for callers in JSON.
RETRY_AFTER_KEY = "retry-after"
# In milliseconds: gRPC's own retries obey it (gRFC A6). Only refusals carry it, for those who asked
# too much; a service that was away may be asked again as soon as the caller's policy says.
PUSHBACK_KEY = "grpc-retry-pushback-ms"

TrailingMetadata = tuple[tuple[str, str | bytes], ...]


def reason_name(reason: int) -> str:
    """Return the name that ErrorInfo.reason carries, e.g. "SOLD_OUT"."""
    return errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")  # type: ignore[arg-type]


def encode_details(error: SeckillError) -> bytes:
    """Return the serialized google.rpc.Status, the value of `grpc-status-details-bin`."""
    if isinstance(error, RemoteError):
        return error.encoded_details
    info = error_details_pb2.ErrorInfo(
        reason=reason_name(error.reason), domain=DOMAIN, metadata=error.metadata
    )
    details: list[Message] = [info, *error.details()]
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
    """Return the trailing metadata to send with the error's code and message."""
    details = (DETAILS_KEY, encode_details(error))
    if error.retry_after_s is None:
        return (details,)
    retry_after = (RETRY_AFTER_KEY, str(math.ceil(error.retry_after_s)))
    if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return (details, retry_after)
    pushback_ms = math.ceil(error.retry_after_s * 1000)
    return (details, retry_after, (PUSHBACK_KEY, str(pushback_ms)))


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> SeckillError:
    """Return the fault to raise for a failed call of another service.

    A status that carries our details is passed on. Any other one, as a broken connection or a
    passed deadline causes, becomes DependencyUnavailable naming `service`.
    """
    metadata = dict(error.trailing_metadata() or ())
    encoded = metadata.get(DETAILS_KEY)
    if isinstance(encoded, bytes):
        return RemoteError(
            error.code(), error.details() or "", encoded, retry_after_s=_delay_named_in(metadata)
        )
    return DependencyUnavailable(f"{service} does not answer", metadata={"service": service})


def _delay_named_in(metadata: Mapping[str, str | bytes]) -> float | None:
    """Seconds after which the caller may come back, as exactly as the metadata tell."""
    for key, unit_s in ((PUSHBACK_KEY, 0.001), (RETRY_AFTER_KEY, 1.0)):
        text = str(metadata.get(key, ""))
        if text.isdecimal():
            return int(text) * unit_s
    return None


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return ErrorInfo.reason of a status received from the mesh, None if it has no ErrorInfo."""
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
    return None
