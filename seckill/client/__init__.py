"""Buying from a mesh, with asyncio (`SeckillClient`) or with threads (`SyncSeckillClient`)."""

from seckill.client.aio import SeckillClient
from seckill.client.errors import (
    CallFailed,
    IdentityRejected,
    InvalidRequest,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    StateConflict,
    TryLater,
)
from seckill.client.results import AgedOrder, Outcome, Purchase, settled, visible
from seckill.client.retry import RetryPolicy
from seckill.client.sync import SyncSeckillClient
from seckill.client.transport import Call

__all__ = [
    "AgedOrder",
    "Call",
    "CallFailed",
    "IdentityRejected",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "Purchase",
    "RetryPolicy",
    "SeckillClient",
    "StateConflict",
    "SyncSeckillClient",
    "TryLater",
    "settled",
    "visible",
]
