"""What both twins need of gRPC: channel options, the stub's calls, statuses as exceptions."""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import Message

from seckill.client.errors import CallFailed, Status, call_failed
from seckill.client.retry import Deadline, RetryPolicy
from seckill.version import VERSION

Option: TypeAlias = tuple[str, Any]

CHANNEL_OPTIONS: tuple[Option, ...] = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # The flows repeat calls by what the replies say; gRPC would multiply that.
    ("grpc.enable_retries", 0),
    # A peer that stands still is noticed within 25 s, while calls are under way.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Addresses are resolved again whenever a connection ends, as it does at its age; gRPC would
    # wait 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.primary_user_agent", f"seckill-client/{VERSION}"),
)
DEFAULT_POLICY = RetryPolicy()


def channel_options(more: Sequence[Option]) -> list[Option]:
    """Return the options of a channel; those in `more` replace ours of the same name."""
    return list(dict((*CHANNEL_OPTIONS, *more)).items())


@dataclass(kw_only=True)
class Call:
    """One call that the client made, for `on_call`: metrics, logs, records.

    Attributes:
        method: of GatewayService, e.g. "Purchase".
        request: what was sent.
        start_s: monotonic seconds at which it was sent.
        seconds: how long it took.
        response: what was answered; None if it failed or was cancelled.
        failure: why it failed; None if it was answered or cancelled.
    """

    method: str
    request: Message
    start_s: float
    seconds: float = 0.0
    response: Message | None = None
    failure: CallFailed | None = None


OnCall: TypeAlias = Callable[[Call], None]


def authorization(identity: str) -> tuple[str, str]:
    """Return the metadata that says who calls."""
    return ("authorization", f"Bearer {identity}")


def new_request_id() -> str:
    """Return a request id that no attempt had before."""
    return str(uuid.uuid4())


def deadline(policy: RetryPolicy, timeout_s: float) -> Deadline:
    """Return a deadline by the process's clock."""
    # Spreads pauses, guards nothing.
    rng = random.Random()  # noqa: S311
    return Deadline(policy, timeout_s, time.monotonic, rng)


def failure_of(error: grpc.RpcError) -> CallFailed:
    """Return what a failed call of either kind of channel means."""
    status = cast("Status", error)
    trailing: Any = cast("Any", error).trailing_metadata() or ()
    return call_failed(status.code(), status.details() or "", dict(trailing))


@contextmanager
def recorded(method: str, request: Message, on_call: OnCall | None) -> Iterator[Call]:
    """Time one call, turn its gRPC error into CallFailed, and tell `on_call` of it."""
    call = Call(method=method, request=request, start_s=time.monotonic())
    try:
        yield call
    except grpc.RpcError as error:
        call.failure = failure_of(error)
        raise call.failure from error
    finally:
        call.seconds = time.monotonic() - call.start_s
        if on_call is not None:
            on_call(call)
