"""What a sale asks of its buyers, set as an operator does."""

import asyncio

from seckill.v1 import gate_pb2, gate_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.mesh import Mesh
from tests.kits.operator import authorization
from tests.kits.waiting import eventually

REVISION = "seckill_gateway_rules_revision "


async def set_policy(mesh: Mesh, policy: gate_pb2.SalePolicy) -> None:
    """Set a sale's policy, and wait until it is in force at the gateway."""
    metadata = authorization(mesh.issuer.token("olga", roles=["operator"]))
    async with mesh.channel("order") as channel:
        answer = await gate_pb2_grpc.GateRulesServiceStub(channel).SetSalePolicy(
            gate_pb2.SetSalePolicyRequest(policy=policy), metadata=metadata, timeout=CALL_S
        )

    async def in_force() -> float:
        lines = (await asyncio.to_thread(mesh.metrics, "gateway")).splitlines()
        (line,) = [one for one in lines if one.startswith(REVISION)]
        return float(line.split()[1])

    await eventually(in_force, lambda seen: seen >= answer.revision)
