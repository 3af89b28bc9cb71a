"""Services stop working for callers whose deadline has passed, even if their stores stand still."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc

from devstack import Stores, ValkeyServer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, rollback_pb2, rollback_pb2_grpc
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.buyers import at_gateway
from tests.kits.faults.cluster import CALL_S, Cluster
from tests.kits.faults.fixtures import MakeCluster
from tests.kits.waiting import eventually

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
async def standing_still(cluster: Cluster) -> AsyncIterator[None]:
    """Let Redis run no script and Postgres show no order, while both still answer pings."""
    async with cluster.reader.sql.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await cluster.reader.redis.client_pause(int(FOR_LONG) * 1_000, all=False)
        try:
            yield
        finally:
            await cluster.reader.redis.client_unpause()


async def test_a_deadline_of_fifty_milliseconds_reaches_every_service(
    make_cluster: MakeCluster, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Each handler ends soon after its caller's deadline, however long its stores may take."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        await cluster.start(
            *("order", "inventory", "rollback", "gateway"),
            **PATIENT,
            gateway_rate_user="0",
            gateway_rate_issue="0",
        )
        sku = await cluster.open_sale(sale_terms())
        async with at_gateway(cluster, sku) as buyers:
            told = await buyers.buy()
        async with cluster.channel("gateway") as gateway, cluster.channel("rollback") as rollback:
            identity = (("authorization", f"Bearer {cluster.issuer.token(told.user_id)}"),)
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

            async with standing_still(cluster):
                await hurried(purchase, cluster, "inventory", "BatchReserve")
                await hurried(poll, cluster, "order", "BatchGetOrders")
                await hurried(sweep, cluster, "rollback", "Sweep")


async def hurried(
    call: Callable[[], Awaitable[None]], cluster: Cluster, service: str, method: str
) -> None:
    """Call until the service is reached; then wait until none of its handlers is running."""

    async def started() -> float:
        return await cluster.metric(service, "grpc_server_started_total", grpc_method=method)

    async def ended() -> float:
        return await cluster.metric(service, "grpc_server_handled_total", grpc_method=method)

    before = await started()
    codes: set[grpc.StatusCode] = set()

    async def reached() -> bool:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
        return await started() > before

    await eventually(reached)
    # Either in time, that nothing is known yet, or by the caller's own clock.
    assert codes
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    calls = await started()
    await eventually(ended, lambda count: count >= calls)
