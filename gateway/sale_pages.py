"""Pages of sales, kept for a second: a loop that lists sales reads the gateway's memory."""

import asyncio
import time
from bisect import bisect_right
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration

from gateway.ages import older
from seckill.errors import Overloaded
from seckill.runtime.recent import Recent
from seckill.status import from_rpc_error
from seckill.v1 import gateway_pb2, inventory_pb2, inventory_pb2_grpc
from seckill.validation import SKU, decode_page_token, encode_page_token, page_size

PAGE_KEPT_S = 1.0
# Pages in memory; the largest has some 50 KB.
PAGES_MAX = 64
# Pages are made in few sizes, so that callers who ask for many sizes share them.
SIZES = (1, 2, 5, 10, 20, 50, 100)
# Pages other than the first ones that are asked for at once: any sku may be named to begin after.
LATER_PAGES_MAX = 2
LATER_PAGES_WAIT_S = 0.5

Page = gateway_pb2.GatewayServiceListSalesResponse
_Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _KeptPage:
    page: Page
    as_of_s: float
    until_s: float

    def told(self) -> Page:
        """The page with its age."""
        page = Page()
        page.CopyFrom(self.page)
        page.age.CopyFrom(older(Duration(), time.monotonic() - self.as_of_s))
        return page


class SalePages:
    """Reads each page once a second at most, and few pages at once."""

    def __init__(
        self, stub: "inventory_pb2_grpc.InventoryServiceAsyncStub", *, timeout_s: float
    ) -> None:
        """`timeout_s`: longest time for a page."""
        self._stub = stub
        self._timeout_s = timeout_s
        self._kept: Recent[_Key, _KeptPage] = Recent(PAGES_MAX)
        self._reading: dict[_Key, asyncio.Task[_KeptPage]] = {}

    async def read(self, request: gateway_pb2.GatewayServiceListSalesRequest) -> Page:
        """A page, which says how old it is at most. It is kept for a second.

        Raises:
            InvalidField: the size or the token is none.
            Overloaded: too many other pages are being read.
            SeckillError: inventory does not answer, or says what is wrong.
        """
        size = SIZES[bisect_right(SIZES, page_size(request.page_size)) - 1]
        key = (size, decode_page_token(request.page_token, SKU))
        kept = self._kept.get(key)
        if kept is not None and kept.until_s > time.monotonic():
            return kept.told()
        reading = self._reading.get(key)
        if reading is None:
            if key[1] and sum(bool(after) for _, after in self._reading) >= LATER_PAGES_MAX:
                raise Overloaded("too many pages are being read", wait_s=LATER_PAGES_WAIT_S)
            reading = asyncio.create_task(self._read(key), name="page of sales")
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key))
        # One caller's cancellation must not end the reading of the others.
        return (await asyncio.shield(reading)).told()

    async def _read(self, key: _Key) -> _KeptPage:
        size, after = key
        question = inventory_pb2.ListSalesRequest(
            page_size=size,
            page_token=encode_page_token(after) if after else "",
            replica_allowed=True,
        )
        asked_s = time.monotonic()
        try:
            found = await self._stub.ListSales(question, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="inventory") from error
        page = Page(sales=found.sales, next_page_token=found.next_page_token)
        as_of_s = asked_s - found.age.ToNanoseconds() / 1e9
        kept = _KeptPage(page, as_of_s, time.monotonic() + PAGE_KEPT_S)
        self._kept.put(key, kept)
        return kept
