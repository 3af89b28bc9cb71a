"""Calls of which it is certain that no server has begun to handle them."""

import grpc

# What gRPC says when it had no connection to send on.
_TEXTS = (
    "connections to all backends failing",
    "failed to connect",
    "DNS resolution failed",
    "empty address list",
)


class NeverSent(grpc.aio.AioRpcError):
    """A call on a channel of our own (http2/channel.py) that was never handled."""


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call has surely had no effect."""
    if isinstance(error, NeverSent):
        return True
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(text in details for text in _TEXTS)
