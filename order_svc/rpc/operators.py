"""Decides who may call: operators and the shop's services, by the roles in their tokens."""

from typing import Protocol

from seckill.errors import NotAllowed
from seckill.runtime.roles import Context

SETTING = "SECKILL_ORDER_OPERATOR_JWKS"


class Gate(Protocol):
    """Decides who may call."""

    async def admit(self, context: Context) -> str:
        """Return the caller's name, or raise what they are told."""


class ClosedGate:
    """Admits no one: the service was not told who signs tokens."""

    async def admit(self, context: Context) -> str:
        """Raise NotAllowed, naming the setting that is missing."""
        del context
        raise NotAllowed(
            f"this service cannot tell who may call: {SETTING} is not set",
            metadata={"setting": SETTING},
        )


class OpenGate:
    """Admits everyone, for development."""

    async def admit(self, context: Context) -> str:
        """Return no name."""
        del context
        return ""
