"""Callers in a hurry, and stores that stand still: nobody works for those who have left."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc

from deploy.local import Stores, ValkeyServer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, rollback_pb2, rollback_pb2_grpc
from tests.factories import new_id, sale_terms
from tests.faults.buyers import Buyers, GatewayDoor
from tests.faults.conftest import MakeLine
from tests.faults.line import CALL_S, Line
from tests.waiting import eventually

HURRY_S = 0.05
# Much longer than the test is willing to wait: what ends sooner has ended by the caller's deadline.
FOR_LONG = "60"
PATIENT = dict.fromkeys(
    (
        "redis_timeout_s",
        "postgres_timeout_s",
        "gateway_inventory_timeout_s",
        "gateway_order_timeout_s",
        "rollback_call_timeout_s",
    ),
    FOR_LONG,
)


@asynccontextmanager
async def standing_still(line: Line) -> AsyncIterator[None]:
    """Redis runs no script and Postgres shows no order; both answer that they are well."""
    async with line.reader.sql.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await line.reader.redis.client_pause(int(FOR_LONG) * 1_000, all=False)
        try:
            yield
        finally:
            await line.reader.redis.client_unpause()


async def test_a_deadline_of_fifty_milliseconds_reaches_every_stage(
    make_line: MakeLine, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Each handler ends soon after its caller has left, however long its stores may take."""
    async with make_line(replace(own_stores, redis_url=own_valkey.url)) as line:
        await line.start(
            *("order", "inventory", "rollback", "gateway"), **PATIENT, gateway_rate_user="0"
        )
        sku = await line.open_sale(sale_terms())
        async with line.channel("gateway") as gateway, line.channel("rollback") as rollback:
            door = GatewayDoor(gateway, line)
            buyers = Buyers(door, sku)
            told = await buyers.insist()
            identity = (("authorization", f"Bearer {line.issuer.token(told.user_id)}"),)
            stub = gateway_pb2_grpc.GatewayServiceStub(gateway)
            token = await stub.IssuePurchaseToken(
                gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=identity, timeout=CALL_S
            )

            async def purchase() -> None:
                request = gateway_pb2.PurchaseRequest(
                    sku=sku,
                    quantity=1,
                    purchase_token=token.purchase_token,
                    request_id=new_id("request"),
                )
                await stub.Purchase(request, metadata=identity, timeout=HURRY_S)

            async def poll() -> None:
                # One that the projection does not have is looked for in the database.
                number = f"{told.order_no[:-4]}ZZZZ"
                request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=number)
                await stub.GetOrder(request, metadata=identity, timeout=HURRY_S)

            async def sweep() -> None:
                operators = rollback_pb2_grpc.RollbackServiceStub(rollback)
                await operators.Sweep(rollback_pb2.SweepRequest(), timeout=HURRY_S)

            async with standing_still(line):
                await hurried(purchase, line, "inventory", "BatchReserve")
                await hurried(poll, line, "order", "BatchGetOrders")
                await hurried(sweep, line, "rollback", "Sweep")


async def hurried(call: Callable[[], Awaitable[None]], line: Line, stage: str, method: str) -> None:
    """Call until the stage is reached; then wait until none of its handlers is left at work."""

    async def begun() -> float:
        return await line.metric(stage, "grpc_server_started_total", grpc_method=method)

    async def ended() -> float:
        return await line.metric(stage, "grpc_server_handled_total", grpc_method=method)

    before = await begun()
    codes: set[grpc.StatusCode] = set()

    async def reached() -> bool:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
        return await begun() > before

    await eventually(reached)
    # Either in time, that nothing is known yet, or by the caller's own clock.
    assert codes
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    calls = await begun()
    await eventually(ended, lambda count: count >= calls)
