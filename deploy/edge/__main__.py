"""`python -m deploy.edge`: the agent beside one Envoy."""

import grpc
import structlog

from deploy.edge.agent import Agent
from deploy.edge.bootstrap import AGENT_SOCKET
from deploy.edge.lease import Lease
from deploy.edge.settings import EdgeSettings
from seckill.channel import open_channel
from seckill.clock import SystemClock
from seckill.process import Process, run
from seckill.sale_view import follow_sales
from seckill.server import Health, serving
from seckill.v1 import inventory_pb2_grpc

INVENTORY = "seckill.v1.InventoryService"

log = structlog.get_logger()


async def serve(settings: EdgeSettings, process: Process) -> None:
    """Run until the process is told to stop."""
    channel: grpc.aio.Channel = await process.enter(
        open_channel(settings.inventory_target, service=INVENTORY)
    )
    lease = Lease(ttl_s=settings.edge_lease_s)
    agent = Agent(settings, lease, clock=SystemClock())
    # The routes of an earlier life go before anybody is granted anything.
    agent.run_once()
    stub = inventory_pb2_grpc.InventoryServiceStub(channel)
    await process.spawn("sales", follow_sales(stub, apply=agent.apply, broken=agent.broken))
    await process.spawn("agent", agent.run())
    health = Health([])
    socket = settings.edge_directory / AGENT_SOCKET
    await process.enter(
        serving(
            f"unix:{socket}",
            lease.register,
            settings=settings,
            health_state=health,
            services=[],
        )
    )
    log.info("serving", socket=str(socket))
    try:
        await process.until_stopped(health, {})
    finally:
        lease.close()


if __name__ == "__main__":
    run("edge", EdgeSettings, serve)
