"""Token buckets in Redis, one set for all gateways: the same rules as gateway.buckets.Buckets."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import NoScriptError

from gateway.buckets import refusal
from seckill.errors import DependencyUnavailable, RateLimited
from seckill.runtime import keyspace
from seckill.runtime.redis_client import Command, redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio

DIGEST_BYTES = 12
SCRIPT = resources.files(__package__).joinpath("take_tokens.lua").read_text("utf-8")
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# After so many questions in a row without an answer Redis is not asked for a while: no buyer waits
# for it. One alone may be this process' own fault, if its loop was busy.
UNANSWERED_MAX = 2
PAUSE_S = 1.0
log = structlog.get_logger()


def key_prefix() -> str:
    """Return what all keys begin with: one hash tag, so that those of a script are in one slot."""
    return f"{{{keyspace.prefix}:gate}}:"


class SharedBuckets:
    """One bucket in Redis for each key of one kind, whichever gateway takes from it."""

    def __init__(
        self,
        name: str,
        *,
        rate_per_s: float,
        burst: int,
        on_refusal: Callable[[], object] = bool,
    ) -> None:
        """The arguments are those of Buckets."""
        self.name = name
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._on_refusal = on_refusal

    @property
    def limited(self) -> bool:
        """False if everything passes."""
        return self._rate_per_s > 0

    def adopt(self, *, rate_per_s: float, burst: int, now_s: float) -> None:
        """Limit by another rate and burst from now on; what was spent of each bucket stays spent.

        `now_s` does not matter here: Redis has its own clock.
        """
        del now_s
        self._rate_per_s = rate_per_s
        self._burst = burst

    def command(self, keys: Sequence[str]) -> Command:
        """Return the command that takes one token for each key."""
        names = [key_of(self.name, key) for key in keys]
        return ("EVALSHA", SHA, len(names), *names, repr(self._rate_per_s), self._burst)

    def refusal(self, wait_ms: int) -> RateLimited | None:
        """Return what a caller is told by the script's reply for their key; None if they pass."""
        if not wait_ms:
            return None
        self._on_refusal()
        return refusal(self.name, wait_ms / 1000)


def key_of(name: str, key: str) -> str:
    """Return the name in Redis of the bucket of a key."""
    digest = hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).hexdigest()
    return f"{key_prefix()}{name}:{digest}"


class BucketStore:
    """Redis, asked for tokens of several kinds of buckets in one round trip."""

    def __init__(self, client: "redis.asyncio.Redis", *, timeout_s: float) -> None:
        """`timeout_s`: a slower answer is none."""
        self._redis = client
        self._timeout_s = timeout_s
        self._unanswered = 0
        self._asked_again_s = 0.0

    @property
    def paused(self) -> bool:
        """Whether Redis is not asked for the moment, since it did not answer."""
        return time.monotonic() < self._asked_again_s

    async def take(
        self, wanted: Sequence[tuple[SharedBuckets, Sequence[str]]]
    ) -> list[list[RateLimited | None]]:
        """Take a token for each key of each kind.

        Returns:
            For each kind the refusals in the order of its keys; None for a token taken.

        Raises:
            DependencyUnavailable: Redis does not answer in time.
        """
        commands = [buckets.command(keys) for buckets, keys in wanted if keys]
        try:
            with redis_faults():
                async with asyncio.timeout(self._timeout_s):
                    replies = iter(await self._send(commands))
        except DependencyUnavailable as error:
            self._unanswered += 1
            if self._unanswered >= UNANSWERED_MAX:
                self._asked_again_s = time.monotonic() + PAUSE_S
            log.warning("shared buckets not asked", error=repr(error.__cause__))
            raise
        self._unanswered = 0
        return [
            [buckets.refusal(wait_ms) for wait_ms in next(replies)] if keys else []
            for buckets, keys in wanted
        ]

    async def _send(self, commands: list[Command]) -> list[list[int]]:
        try:
            return await send_all(self._redis, commands)
        except NoScriptError:
            loading: Command = ("SCRIPT", "LOAD", SCRIPT)
            return (await send_all(self._redis, [loading, *commands]))[1:]
