"""Who may change a sale, and what they are told, over gRPC and from the command line."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack import Stores
from seckill.status import reason_of
from seckill.v1 import order_admin_pb2, order_pb2, order_pb2_grpc, sale_pb2
from tests.kits.factories import moment, sale_terms
from tests.kits.operator import Desk, authorization, open_desk
from tests.kits.stores import Topics


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk before a service that knows the issuer of operators."""
    async with open_desk(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics, secrets=tmp_path
    ) as opened:
        yield opened


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None]:
    """Return how a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)


async def test_units_and_terms_are_changed_by_operators_and_recorded_with_their_name(
    desk: Desk,
) -> None:
    """Others change nothing; what is in force is recorded also if nobody says who it was."""
    buyer = authorization(desk.issuer.token("buyer-1"))
    async with grpc.aio.insecure_channel(desk.address) as channel:
        orders = order_pb2_grpc.OrderServiceStub(channel)
        terms = sale_terms(starts_in_s=1_800)
        await orders.RegisterSale(order_pb2.RegisterSaleRequest(terms=terms))
        sku = terms.sku
        add = order_pb2.AddUnitsRequest(sku=sku, addition_id="a", units=1)
        rename = order_pb2.ChangeTermsRequest(sku=sku, title="New")
        calls: list[tuple[Any, Any]] = [(orders.AddUnits, add), (orders.ChangeTerms, rename)]
        for call, request in calls:
            missing = (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_MISSING")
            assert await refused(call(request)) == missing
            denied = (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
            assert await refused(call(request, metadata=buyer)) == denied
            await call(request, metadata=desk.metadata)
        for revision, metadata in enumerate((desk.metadata, (), buyer), start=1):
            record = order_pb2.RecordSaleRequest(
                sku=sku,
                state=sale_pb2.SALE_STATE_PAUSED,
                start_time=terms.start_time,
                end_time=moment(3_600 + revision),
                revision=revision,
            )
            await orders.RecordSale(record, metadata=metadata)
        names: list[str] = []
        page = order_admin_pb2.ListSaleChangesRequest(sku=sku, page_size=2)
        while True:
            answer = await desk.stub.ListSaleChanges(page, metadata=desk.metadata)
            names += [change.operator for change in answer.changes]
            if not answer.next_page_token:
                break
            page.page_token = answer.next_page_token
    assert names == ["olga", "olga", "olga", "", ""]
