"""What the gateway traces: calls by share or as their callers ask, all that fail, and batches."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from seckill.runtime import tracing
from seckill.runtime.spans import LEFT_OUT, Span, Tracer
from seckill.runtime.traceparent import TraceContext
from seckill.v1 import gateway_pb2, inventory_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, details, failure, open_rig
from tests.kits.tracing import CALLER, SAMPLED, Clock, Kept
from tests.kits.waiting import eventually

PURCHASE = "seckill.v1.GatewayService/Purchase"
RESERVE = "seckill.v1.InventoryService/BatchReserve"
BATCH = "batch inventory"


@asynccontextmanager
async def traced_rig(
    front: str, directory: Path, **options: Any
) -> AsyncIterator[tuple[GatewayRig, Kept]]:
    """A gateway whose spans are kept; `options` are the tracer's."""
    kept = Kept()
    options = {"share": 0, "errors_per_s_max": 1_000, "is_first": True, **options}
    with tracing.installed(Tracer(kept, **options)) as tracer:
        async with AsyncExitStack() as stack:
            yield await open_rig(stack, directory, front), kept
        assert not tracer.live


async def buy(
    rig: GatewayRig, sku: str, *, token: str = "", user: str = "", headers: Mapping[str, str] = {}
) -> gateway_pb2.PurchaseResponse:
    """Make one attempt with these headers."""
    user = user or new_id("buyer")
    request = gateway_pb2.PurchaseRequest(
        sku=sku, purchase_token=token or await rig.token(sku, user), request_id=new_id("request")
    )
    metadata = (*rig.identity(user), *headers.items())
    return await rig.stub.Purchase(request, metadata=metadata, timeout=CALL_S)


async def ended(kept: Kept, name: str, count: int = 1) -> list[Span]:
    """Wait until so many spans of this name have ended, and return them."""

    async def look() -> list[Span]:
        return kept.named(name)

    return await eventually(look, lambda found: len(found) >= count)


async def test_a_call_is_traced_as_its_caller_asks(front: str, tmp_path: Path) -> None:
    """Below the caller's span; the batch and the next service's call below that."""
    async with traced_rig(front, tmp_path) as (rig, kept):
        sku = rig.services.inventory.put(sale_terms(units=9))
        await buy(rig, sku)
        bought = await buy(rig, sku, headers={"traceparent": SAMPLED})
        (batch,) = await ended(kept, BATCH)
        (call,) = await ended(kept, PURCHASE)
        (reserve,) = await ended(kept, RESERVE)
    assert call.parent == CALLER
    assert call.context.trace_id == CALLER.trace_id
    assert call.attributes["seckill.outcome"] == "RESERVED"
    assert call.attributes["seckill.order_no"] == bought.order_no
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert (batch.parent, batch.links) == (call.context, [call.context])
    assert batch.attributes["seckill.batch.calls"] == 1
    assert reserve.parent == batch.context


@pytest.mark.parametrize(
    "header", [SAMPLED[:-2] + "00", SAMPLED[:-1], SAMPLED.upper(), "00-0-0-01", "x"]
)
async def test_who_does_not_ask_or_asks_wrongly_is_not_traced(
    front: str, tmp_path: Path, header: str
) -> None:
    """And is answered as anybody."""
    async with traced_rig(front, tmp_path) as (rig, kept):
        sku = rig.services.inventory.put(sale_terms(units=9))
        answer = await buy(rig, sku, headers={"traceparent": header})
    assert answer.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED
    assert not kept.spans


async def test_a_malformed_header_leaves_the_call_to_the_share(front: str, tmp_path: Path) -> None:
    """It begins a trace of its own."""
    async with traced_rig(front, tmp_path, share=1) as (rig, kept):
        sku = rig.services.inventory.put(sale_terms(units=9))
        await buy(rig, sku, headers={"traceparent": SAMPLED.upper()})
        (call,) = await ended(kept, PURCHASE)
    assert call.parent is None
    assert call.context.trace_id != CALLER.trace_id


async def test_a_flood_of_sampled_headers_turns_tracing_on_for_so_many_a_second(
    front: str, tmp_path: Path
) -> None:
    """The others are answered as ever, and are not traced."""
    async with traced_rig(front, tmp_path, callers_per_s_max=7, clock=Clock()) as (rig, kept):
        sku = rig.services.inventory.put(sale_terms(units=999))
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
        flood = [
            rig.stub.GetSale(request, metadata=(("traceparent", SAMPLED),), timeout=CALL_S)
            for _ in range(100)
        ]
        for answer in await asyncio.gather(*flood):
            assert answer.sale.terms.sku == sku
    # Those of the service behind are of the same bound here, which has one tracer.
    assert 0 < len(kept.named("seckill.v1.GatewayService/GetSale")) <= 7


async def test_a_batch_is_linked_to_those_of_its_calls_that_are_traced(tmp_path: Path) -> None:
    """It is below the first of them; the others name it."""
    async with traced_rig("http2", tmp_path) as (rig, kept):
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=99))
        users = [new_id("buyer") for _ in range(9)]
        tokens = [await rig.token(sku, user) for user in users]
        inventory.open.clear()
        inventory.batch_arrived.clear()
        first = asyncio.create_task(buy(rig, sku, token=tokens[0], user=users[0]))
        await inventory.batch_arrived.wait()
        others = [
            asyncio.create_task(
                buy(
                    rig,
                    sku,
                    token=token,
                    user=user,
                    headers={"traceparent": TraceContext(number, 5, number % 2 == 1).header},
                )
            )
            for number, (token, user) in enumerate(zip(tokens[1:], users[1:], strict=True), start=1)
        ]
        tracer = tracing.tracer
        assert tracer is not None

        async def live() -> int:
            return len(tracer.live)

        await eventually(live, lambda count: count == 4)
        inventory.open.set()
        await asyncio.gather(first, *others)
        batches = await ended(kept, BATCH)
        calls = kept.named(PURCHASE)
    assert sorted(call.context.trace_id for call in calls) == [1, 3, 5, 7]
    linked = [link for batch in batches for link in batch.links]
    assert sorted(linked) == sorted(call.context for call in calls)
    for batch in batches:
        of_batch = [call for call in calls if call.context in batch.links]
        (leading,) = [call for call in of_batch if call.context == batch.parent]
        for call in of_batch:
            assert call.links == ([] if call is leading else [batch.context])


async def test_a_failed_call_is_traced_though_nothing_is_sampled(
    front: str, tmp_path: Path
) -> None:
    """With its batch, and under the id that its caller and its line in the log have."""
    async with traced_rig(front, tmp_path) as (rig, kept):
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=9))
        await buy(rig, sku)
        assert not kept.spans
        inventory.failure = grpc.StatusCode.UNAVAILABLE
        with capture_logs() as lines:
            error = await failure(buy(rig, sku))
        (call,) = await ended(kept, PURCHASE)
        (batch,) = await ended(kept, BATCH)
    named = details(error)["ErrorInfo"].metadata["request-id"]
    assert named in {line.get("request_id") for line in lines}
    errors = {span.name: error for span, error in kept.spans}
    assert errors[PURCHASE] == errors[BATCH] == "UNAVAILABLE"
    assert f"{call.context.trace_id:032x}" == named
    if front == "http2":
        assert batch.context.trace_id == call.context.trace_id
        assert (batch.parent, batch.links) == (call.context, [call.context])
    assert batch.begun_s <= call.begun_s + CALL_S


async def test_failed_calls_are_bounded_and_counted(tmp_path: Path) -> None:
    """What is beyond is left out."""
    before = LEFT_OUT._value.get()
    options = {"errors_per_s_max": 5, "clock": Clock()}
    async with traced_rig("http2", tmp_path, **options) as (rig, kept):
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=9))
        inventory.failure = grpc.StatusCode.UNAVAILABLE
        token = await rig.token(sku, "buyer")
        # Fewer than open the circuit breaker, which other tests look at.
        for _ in range(2):
            await failure(buy(rig, sku, token=token, user="buyer"))
    assert len(kept.spans) == 5
    assert LEFT_OUT._value.get() > before


async def test_what_is_the_callers_own_doing_is_no_fault(front: str, tmp_path: Path) -> None:
    """An invalid field, and a sale that is sold out, leave no span."""
    async with traced_rig(front, tmp_path) as (rig, kept):
        sku = rig.services.inventory.put(sale_terms(units=1))
        await buy(rig, sku)
        assert (await buy(rig, sku)).outcome == inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
        error = await failure(rig.stub.Purchase(gateway_pb2.PurchaseRequest(), timeout=CALL_S))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not kept.spans


async def test_a_method_that_is_not_batched_is_traced(front: str, tmp_path: Path) -> None:
    """ListSales goes through to the server behind, and on to inventory."""
    async with traced_rig(front, tmp_path) as (rig, kept):
        await rig.stub.ListSales(
            gateway_pb2.GatewayServiceListSalesRequest(),
            metadata=(("traceparent", SAMPLED),),
            timeout=CALL_S,
        )
        (call,) = await ended(kept, "seckill.v1.GatewayService/ListSales")
        (behind,) = await ended(kept, "seckill.v1.InventoryService/ListSales")
    assert call.parent == CALLER
    assert behind.parent == call.context
