"""Sales that were closed because their data was stale: rebuilt, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import grpc
import structlog

from seckill.errors import RemoteError, SaleStateConflict, SeckillError
from seckill.runtime.retry import until_success

# Longest pause between tries to rebuild a sale.
REBUILD_WAIT_MAX_S = 5.0
log = structlog.get_logger()


class DiscardedSales:
    """Rebuilds the sales that it is told of."""

    def __init__(self, rebuild: Callable[[str], Awaitable[None]], *, wait_min_s: float) -> None:
        """Describe it.

        Args:
            rebuild: rebuilds the sale of a sku.
            wait_min_s: first pause between tries.
        """
        self._rebuild = rebuild
        self._wait_min_s = wait_min_s
        # Bounded by the sales that there are.
        self._skus: asyncio.Queue[str] = asyncio.Queue()

    def note(self, skus: Iterable[str]) -> None:
        """Have these sales rebuilt."""
        for sku in skus:
            self._skus.put_nowait(sku)

    async def run(self) -> None:
        """Rebuild each sale that was discarded, until cancelled."""
        while True:
            sku = await self._skus.get()
            async for attempt in until_success(
                "rebuild of a stale sale",
                on=SeckillError,
                wait_min_s=self._wait_min_s,
                wait_max_s=REBUILD_WAIT_MAX_S,
            ):
                with attempt:
                    await self._rebuild_one(sku)

    async def _rebuild_one(self, sku: str) -> None:
        try:
            await self._rebuild(sku)
        except SaleStateConflict:
            log.info("another replica has rebuilt the sale", sku=sku)
        except RemoteError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            log.warning("a stale sale is not registered", sku=sku)
