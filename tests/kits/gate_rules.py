"""GateRulesService on a real database, behind a real gRPC server, without the rest of order_svc."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from order_svc.db.database import Database, open_database
from order_svc.gate.feed import GateRulesFeed
from order_svc.gate.repository import GateRepository
from order_svc.rpc.gate import GateRulesService
from order_svc.rpc.operators import SETTING
from seckill.runtime.dev_issuer import DevIssuer, load_or_create
from seckill.runtime.jwks import KeySet
from seckill.runtime.process import Process
from seckill.runtime.roles import OPERATOR_ROLE, RoleGate
from seckill.runtime.server import FaultsAndMetrics
from seckill.v1 import gate_pb2_grpc, order_admin_pb2_grpc
from tests.kits.operator import Desk, Metadata, authorization
from tests.kits.order_store import settings_for


@dataclass(frozen=True)
class RulesDesk:
    """A running service and who may change its rules.

    Attributes:
        target: gRPC's name of the service.
        desk: runs the `seckill` command as the operator.
        metadata: an operator's, by the name of olga.
    """

    target: str
    desk: Desk
    database: Database
    issuer: DevIssuer
    stub: "gate_pb2_grpc.GateRulesServiceAsyncStub"
    metadata: Metadata


@asynccontextmanager
async def open_rules_desk(
    dsn: str, secrets: Path, *, port: int = 0, timeout_s: float = 5.0, **bounds: Any
) -> AsyncIterator[RulesDesk]:
    """Serve the rules of a database on `port`; `bounds` are settings, by their names' ends."""
    limits = {
        "interval_s": 0.1,
        "stale_s": 3.0,
        "streams_max": 10,
        "entries_max": 100,
        "user_agents_max": 10,
        "policies_max": 10,
        **bounds,
    }
    issuer = load_or_create(secrets)
    keys = KeySet(str(issuer.jwks_path), allow_symmetric=True, reload_interval_s=300)
    await keys.load()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings_for(dsn, postgres_timeout_s=timeout_s))
        )
        of_feed = {name: limits.pop(name) for name in ("interval_s", "stale_s", "streams_max")}
        feed = GateRulesFeed(database, **of_feed)
        await Process(stack, service="order").spawn("gate rules", feed.run())
        operators = RoleGate(
            keys,
            OPERATOR_ROLE,
            issuer=issuer.issuer,
            audience=issuer.audience,
            setting=SETTING,
        )
        service = GateRulesService(GateRepository(database, **limits), feed, operators=operators)
        server = grpc.aio.server(
            interceptors=[FaultsAndMetrics()], options=[("grpc.so_reuseport", 0)]
        )
        gate_pb2_grpc.add_GateRulesServiceServicer_to_server(service, server)
        address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        await server.start()
        stack.push_async_callback(server.stop, None)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        )
        yield RulesDesk(
            f"dns:///{address}",
            Desk(address, issuer, order_admin_pb2_grpc.OrderAdminServiceStub(channel)),
            database,
            issuer,
            gate_pb2_grpc.GateRulesServiceStub(channel),
            authorization(issuer.token("olga", roles=[OPERATOR_ROLE])),
        )
