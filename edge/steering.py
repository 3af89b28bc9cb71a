"""Steers the share of purchases that Envoy lets through: reports in, runtime values out."""

import asyncio

from edge.gateway_loads import GatewayLoads
from edge.lease import Lease
from edge.metrics import EDGE_GATEWAYS_COUNT, EDGE_SHED_SHARE
from edge.shed_routes import shed_values
from edge.shedding import TICK_S, Shedding


async def steer(loads: GatewayLoads, lease: Lease) -> None:
    """Set the share ten times a second, until cancelled."""
    shedding = Shedding()
    while True:
        fresh = loads.fresh()
        share = shedding.tick(fresh)
        lease.shed(shed_values(share))
        EDGE_SHED_SHARE.set(1 - share)
        EDGE_GATEWAYS_COUNT.set(len(fresh))
        await asyncio.sleep(TICK_S)
