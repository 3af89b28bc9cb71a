"""The four services as children of the local stack, with development secrets of their own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.deadline import drive
from deploy.local.ports import LOOPBACK, pick_free_port, wait_until_free
from deploy.local.process import ProcessSpec
from deploy.local.settings import LocalSettings, Stores, read_port
from deploy.local.topics import create_topics
from order_svc.migrate import migrate
from seckill.dev_issuer import DevIssuer, load_or_create

REPOSITORY_ROOT = Path(__file__).parents[2]
ORDERS_PARTITIONS = 12
DEAD_LETTER_PARTITIONS = 1
# Partitions by topic.
TOPICS = {
    "seckill.orders.v1": ORDERS_PARTITIONS,
    "seckill.orders.v1.dlq": DEAD_LETTER_PARTITIONS,
    "seckill.order-events.v1": 4,
}
READY_TIMEOUT_S = 0.5
# A service that dies more often within a minute has a defect that starting anew does not heal.
RESTARTS_MAX = 10


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the four services.

    Attributes:
        name: prefix of its settings.
        module: what `python -m` runs.
        service: full name of its gRPC service.
        port, metrics_port: its ports unless the environment says otherwise.
    """

    name: str
    module: str
    service: str
    port: int
    metrics_port: int

    @property
    def port_variable(self) -> str:
        """The variable that chooses its port; 0 picks a free one."""
        return f"SECKILL_LOCAL_{self.name.upper()}_PORT"

    @property
    def metrics_port_variable(self) -> str:
        """The variable that chooses where its metrics are; 0 picks a free port."""
        return f"SECKILL_LOCAL_{self.name.upper()}_METRICS_PORT"


# In the order of starting: each finds what it calls already there.
STAGES = (
    Stage(
        name="order",
        module="order_svc",
        service="seckill.v1.OrderService",
        port=50053,
        metrics_port=9103,
    ),
    Stage(
        name="inventory",
        module="inventory_svc",
        service="seckill.v1.InventoryService",
        port=50052,
        metrics_port=9102,
    ),
    Stage(
        name="rollback",
        module="rollback_svc",
        service="seckill.v1.RollbackService",
        port=50054,
        metrics_port=9104,
    ),
    Stage(
        name="gateway",
        module="gateway",
        service="seckill.v1.GatewayService",
        port=50051,
        metrics_port=9101,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of one stage: gRPC and metrics."""

    grpc: int
    metrics: int


def claim_ports(env: Mapping[str, str] = os.environ) -> dict[str, Ports]:
    """Settle each stage's ports.

    Returns:
        By the stage's name.

    Raises:
        StackError: a port is taken, or a variable is not a port.
    """
    return {
        stage.name: Ports(
            grpc=claim_port(stage.port_variable, stage.port, env=env, wanted_by=stage.name),
            metrics=claim_port(
                stage.metrics_port_variable,
                stage.metrics_port,
                env=env,
                wanted_by=f"{stage.name}'s metrics",
            ),
        )
        for stage in STAGES
    }


def claim_port(variable: str, default: int, *, env: Mapping[str, str], wanted_by: str) -> int:
    """Settle a port.

    Raises:
        StackError: it is taken, or the variable is not a port.
    """
    port = read_port(env, variable, default=default)
    if port == 0:
        return pick_free_port()
    drive([wait_until_free(port, wanted_by=wanted_by, variable=variable)])
    return port


def service_environment(
    stores: Stores, *, ports: Mapping[str, Ports], issuer: DevIssuer
) -> dict[str, str]:
    """What the four services need to find the stores and each other."""
    settings = {
        "SECKILL_PROFILE": "development",
        "SECKILL_POSTGRES_DSN": stores.postgres_dsn,
        "SECKILL_REDIS_URL": stores.redis_url,
        "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
        "SECKILL_GATEWAY_JWKS": str(issuer.jwks_path),
        "SECKILL_GATEWAY_JWT_ISSUER": issuer.issuer,
        "SECKILL_GATEWAY_JWT_AUDIENCE": issuer.audience,
        "SECKILL_GATEWAY_TOKEN_KEYS": issuer.purchase_token_keys,
    }
    for stage in STAGES:
        prefix = f"SECKILL_{stage.name.upper()}"
        settings[f"{prefix}_LISTEN"] = f"{LOOPBACK}:{ports[stage.name].grpc}"
        settings[f"{prefix}_METRICS_LISTEN"] = f"{LOOPBACK}:{ports[stage.name].metrics}"
        settings[f"{prefix}_TARGET"] = f"dns:///{LOOPBACK}:{ports[stage.name].grpc}"
    return settings


def write_environment(path: Path, settings: Mapping[str, str]) -> None:
    """Write the settings for a shell (`set -a; . FILE`), readable by this user only."""
    lines = [f"{name}='{value}'\n" for name, value in sorted(settings.items())]
    path.touch(mode=0o600)
    path.write_text("".join(lines))


def service_specs(
    env: Mapping[str, str], *, ports: Mapping[str, Ports], directory: Path
) -> list[ProcessSpec]:
    """The four processes with this environment; logs go to `directory`."""
    return [
        ProcessSpec(
            name=stage.name,
            command=[sys.executable, "-m", stage.module],
            log_path=directory / f"{stage.name}.log",
            env={**env, "PYTHONPATH": str(REPOSITORY_ROOT)},
            cwd=REPOSITORY_ROOT,
            ready=_Ready(f"{LOOPBACK}:{ports[stage.name].grpc}", stage.service),
            address=f"{LOOPBACK}:{ports[stage.name].grpc}",
            stop_timeout_s=30.0,
            restarts_max=RESTARTS_MAX,
        )
        for stage in STAGES
    ]


class _Ready:
    """Asks a stage's health service."""

    def __init__(self, address: str, service: str) -> None:
        self._address = address
        self._request = health_pb2.HealthCheckRequest(service=service)

    def __call__(self) -> bool:
        with grpc.insecure_channel(self._address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    self._request, timeout=READY_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def mesh(stores: Stores, further: Mapping[str, str] | None = None) -> list[ProcessSpec]:
    """Prepare topics, schema and secrets, then say what to run: for `Supervisor`.

    Args:
        further: settings of what else will run beside the services.

    Raises:
        StackError: a port is taken, or a topic is refused.
    """
    directory = LocalSettings.from_env().directory.absolute()
    ports = claim_ports()
    asyncio.run(_prepare(stores))
    issuer = load_or_create(directory / "secrets")
    settings = {**service_environment(stores, ports=ports, issuer=issuer), **(further or {})}
    write_environment(directory / "dev.env", settings)
    # Variables of the caller win, so that `SECKILL_GATEWAY_FRONT=grpcio make up` does what it says.
    return service_specs({**settings, **os.environ}, ports=ports, directory=directory)


async def _prepare(stores: Stores) -> None:
    await create_topics(stores.kafka_bootstrap, TOPICS)
    await migrate(stores.postgres_dsn)
