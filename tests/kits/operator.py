"""An order service of the test's own, and an operator with the `seckill` command before it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

import order_svc.__main__
from devstack import Stores
from order_svc.settings import OrderSettings
from seckill.runtime.dev_issuer import DevIssuer, load_or_create
from seckill.v1 import order_admin_pb2_grpc
from tests.kits.factories import new_id
from tests.kits.rollback import free_address, running
from tests.kits.stores import Topics

ROOT = Path(__file__).parents[2]
Metadata = tuple[tuple[str, str], ...]


def authorization(token: str) -> Metadata:
    """Return the metadata of a caller with this token."""
    return (("authorization", f"Bearer {token}"),)


@dataclass(frozen=True)
class Desk:
    """A running order service and who may operate it.

    Attributes:
        address: of the service.
        issuer: signs tokens that it accepts.
        stub: of OrderAdminService.
    """

    address: str
    issuer: DevIssuer
    stub: "order_admin_pb2_grpc.OrderAdminServiceAsyncStub"

    @property
    def token(self) -> str:
        """An operator's token."""
        return self.issuer.token("olga", roles=["operator"])

    @property
    def metadata(self) -> Metadata:
        """An operator's metadata."""
        return authorization(self.token)

    async def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run `seckill`; return its exit status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seckill_cli", *arguments),
            env={
                **os.environ,
                "SECKILL_ORDER_TARGET": self.address,
                "SECKILL_OPERATOR_TOKEN": self.token,
                "COLUMNS": "250",
                "NO_COLOR": "1",
                **(env or {}),
            },
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert b"Traceback" not in output, output.decode()
        return process.returncode or 0, output.decode()

    async def command(self, *arguments: str, fails: bool = False) -> str:
        """Run `seckill`, which fails or does not; return what it printed."""
        status, output = await self.run(*arguments)
        assert bool(status) is fails, output
        return output


@asynccontextmanager
async def open_desk(
    stores: Stores,
    *,
    database_dsn: str,
    redis_url: str,
    topics: Topics,
    secrets: Path,
    **changes: Any,
) -> AsyncIterator[Desk]:
    """Run the service as its `__main__` wires it; `changes` are settings."""
    issuer = load_or_create(secrets)
    address = free_address()
    settings = OrderSettings.model_validate(
        {
            "profile": "development",
            "postgres_dsn": database_dsn,
            "redis_url": redis_url,
            "kafka_bootstrap": stores.kafka_bootstrap,
            "orders_topic": topics.orders,
            "dead_letter_topic": topics.dead_letters,
            "order_consumer_group": new_id("group"),
            "order_listen": address,
            "order_operator_jwks": str(issuer.jwks_path),
            "order_operator_jwt_issuer": issuer.issuer,
            "order_operator_jwt_audience": issuer.audience,
            "drain_timeout_s": 1.0,
            **changes,
        }
    )
    async with (
        running(order_svc.__main__.serve, settings, address=address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Desk(address, issuer, order_admin_pb2_grpc.OrderAdminServiceStub(channel))
