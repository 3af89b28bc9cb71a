"""`python -m edge`: the wiring of the agent beside one Envoy, by hand."""

import grpc
import structlog

from edge.agent import Agent
from edge.bootstrap import AGENT_SOCKET
from edge.draining import drain, take_calls
from edge.gateway_loads import GatewayLoads
from edge.lease import Lease
from edge.operators.actions import OperatorLog
from edge.operators.log import log_path
from edge.operators.publisher import ListenerPublisher
from edge.operators.rotation import LogRotation
from edge.settings import EdgeSettings
from edge.steering import steer
from seckill.runtime.channel import open_channel
from seckill.runtime.clock import SystemClock
from seckill.runtime.process import Process, run
from seckill.runtime.sale_view import follow_sales
from seckill.runtime.server import Health, serving
from seckill.v1 import inventory_pb2_grpc

INVENTORY = "seckill.v1.InventoryService"

log = structlog.get_logger()


async def start_agent(settings: EdgeSettings, lease: Lease, process: Process) -> None:
    """Follow inventory's sales, and keep routes and lease in line with them."""
    channel: grpc.aio.Channel = await process.enter(
        open_channel(settings.inventory_target, service=INVENTORY, mesh=settings.mesh_tls())
    )
    agent = Agent(settings, lease, clock=SystemClock())
    # Replaces the routes of an earlier agent before anything is granted.
    agent.run_once()
    stub = inventory_pb2_grpc.InventoryServiceStub(channel)
    await process.spawn("sales", follow_sales(stub, apply=agent.apply, broken=agent.stream_broken))
    await process.spawn("agent", agent.run())


async def start_steering(settings: EdgeSettings, lease: Lease, process: Process) -> None:
    """Follow the gateways' load, and let through as many purchases as they answer."""
    if settings.edge_shed == "off":
        return
    loads = GatewayLoads(settings.gateway_target, mesh=settings.mesh_tls())
    await process.spawn("loads", loads.run())
    await process.spawn("steering", steer(loads, lease))


async def start_operators(settings: EdgeSettings, process: Process) -> None:
    """Keep the operators' listener in line with keys and files, and its log short."""
    if settings.edge_operator_listen:
        await process.spawn("operators", ListenerPublisher(settings).run())
        await process.spawn("log rotation", LogRotation(settings.edge_directory).run())


async def start_lease_server(
    settings: EdgeSettings, lease: Lease, health: Health, process: Process
) -> None:
    """Serve the lease and the operators' log to Envoy, on a socket in the folder that both see."""
    socket = settings.edge_directory / AGENT_SOCKET

    def register(server: grpc.aio.Server) -> None:
        lease.register(server)
        OperatorLog(log_path(settings)).register(server)

    await process.enter(
        serving(
            f"unix:{socket}",
            register,
            settings=settings,
            health_state=health,
            services=[],
        )
    )
    log.info("serving", socket=str(socket))


async def serve(settings: EdgeSettings, process: Process) -> None:
    """Run until the process is told to stop."""
    lease = Lease(ttl_s=settings.edge_lease_s)
    health = Health([])
    await start_agent(settings, lease, process)
    await start_steering(settings, lease, process)
    await start_operators(settings, process)
    await start_lease_server(settings, lease, health, process)
    await take_calls(settings)
    try:
        await process.until_stopped(health, {})
        await drain(settings)
    finally:
        lease.close()


if __name__ == "__main__":
    run("edge", EdgeSettings, serve)
