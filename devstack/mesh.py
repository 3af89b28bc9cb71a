"""The four services as children of the local stack, with development secrets of their own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from devstack.certificates import MESH_DOMAIN, MESH_FOLDER, MeshCertificates, load_or_create_mesh
from devstack.grpc_probe import GrpcReady
from devstack.kafka_users import grant_kafka_rights, kafka_settings_of
from devstack.pages import payment_providers
from devstack.ports import LOOPBACK, settle_ports
from devstack.postgres_roles import postgres_dsn_of_order
from devstack.process import ProcessSpec
from devstack.redis_users import redis_url_of
from devstack.replicas import (
    Replica,
    further_replicas,
    replica_ports,
    replica_specs,
    shared_targets,
)
from devstack.settings import Stores, WantedPort, read_directory, read_secure
from devstack.stack import KAFKA_FOLDER
from devstack.supervisor import Services
from devstack.topics import create_topics
from seckill.runtime.dev_issuer import DevIssuer, load_or_create

REPOSITORY_ROOT = Path(__file__).parents[1]
ORDERS_PARTITIONS = 12
DEAD_LETTER_PARTITIONS = 1
# Partitions by topic.
TOPICS = {
    "seckill.orders.v1": ORDERS_PARTITIONS,
    "seckill.orders.v1.dlq": DEAD_LETTER_PARTITIONS,
    "seckill.order-events.v1": 4,
}
# Kafka's default is a week for any topic: dead letters stay until operators settle them.
WEEK_MS = 7 * 24 * 3_600 * 1_000
TOPIC_SETTINGS = {
    "seckill.orders.v1": {"retention.ms": str(WEEK_MS)},
    "seckill.orders.v1.dlq": {"retention.ms": "-1"},
    "seckill.order-events.v1": {"retention.ms": str(WEEK_MS)},
}
STORE_ADDRESSES = ("SECKILL_REDIS_URL", "SECKILL_GATEWAY_REDIS_URL", "SECKILL_POSTGRES_DSN")
# A service that dies more often within a minute has a defect that a restart does not heal.
RESTARTS_MAX = 10


@dataclass(frozen=True, kw_only=True)
class Service:
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
SERVICES = (
    Service(
        name="order",
        module="order_svc",
        service="seckill.v1.OrderService",
        port=50053,
        metrics_port=9103,
    ),
    Service(
        name="inventory",
        module="inventory_svc",
        service="seckill.v1.InventoryService",
        port=50052,
        metrics_port=9102,
    ),
    Service(
        name="rollback",
        module="rollback_svc",
        service="seckill.v1.RollbackService",
        port=50054,
        metrics_port=9104,
    ),
    Service(
        name="gateway",
        module="gateway",
        service="seckill.v1.GatewayService",
        port=50051,
        metrics_port=9101,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of one service: gRPC and metrics."""

    grpc: int
    metrics: int


def service_ports() -> tuple[WantedPort, ...]:
    """Return the ports that the services listen on."""
    return tuple(
        port
        for service in SERVICES
        for port in (
            WantedPort(
                variable=service.port_variable, default=service.port, wanted_by=service.name
            ),
            WantedPort(
                variable=service.metrics_port_variable,
                default=service.metrics_port,
                wanted_by=f"{service.name}'s metrics",
            ),
        )
    )


def claim_ports(env: Mapping[str, str] = os.environ) -> dict[str, Ports]:
    """Settle each service's ports, as `settle_ports`.

    Returns:
        By the service's name.
    """
    return _ports_by_service(settle_ports(service_ports(), env).by_variable)


def _ports_by_service(ports: Mapping[str, int]) -> dict[str, Ports]:
    return {
        service.name: Ports(
            grpc=ports[service.port_variable], metrics=ports[service.metrics_port_variable]
        )
        for service in SERVICES
    }


def service_environment(
    stores: Stores, *, ports: Mapping[str, Ports], issuer: DevIssuer
) -> dict[str, str]:
    """Return the settings with which the four services find the stores and each other."""
    settings = {
        "SECKILL_PROFILE": "development",
        "SECKILL_POSTGRES_DSN": stores.postgres_dsn,
        "SECKILL_REDIS_URL": stores.redis_url,
        "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
        "SECKILL_GATEWAY_JWKS": str(issuer.jwks_path),
        "SECKILL_GATEWAY_JWT_ISSUER": issuer.issuer,
        "SECKILL_GATEWAY_JWT_AUDIENCE": issuer.audience,
        "SECKILL_GATEWAY_TOKEN_KEYS": issuer.purchase_token_keys,
        "SECKILL_GATEWAY_SANDBOX_PAYMENTS": "true",
        "SECKILL_GATEWAY_REDIS_URL": stores.redis_url,
        "SECKILL_ORDER_OPERATOR_JWKS": str(issuer.jwks_path),
        "SECKILL_ORDER_OPERATOR_JWT_ISSUER": issuer.issuer,
        "SECKILL_ORDER_OPERATOR_JWT_AUDIENCE": issuer.audience,
        "SECKILL_ORDER_PAYMENT_PROVIDERS": payment_providers(issuer.jwks_path.parent),
    }
    if stores.redis_cluster:
        settings["SECKILL_REDIS_CLUSTER"] = "true"
        # A master that dies takes nothing with it that a buyer was told.
        settings["SECKILL_INVENTORY_WAIT_REPLICAS"] = "1"
    for service in SERVICES:
        prefix = f"SECKILL_{service.name.upper()}"
        settings[f"{prefix}_LISTEN"] = f"{LOOPBACK}:{ports[service.name].grpc}"
        settings[f"{prefix}_METRICS_LISTEN"] = f"{LOOPBACK}:{ports[service.name].metrics}"
        settings[f"{prefix}_TARGET"] = f"dns:///{LOOPBACK}:{ports[service.name].grpc}"
    return settings


def write_environment(path: Path, settings: Mapping[str, str]) -> None:
    """Write the settings for a shell (`set -a; . FILE`), readable by this user only."""
    lines = [f"{name}='{value}'\n" for name, value in sorted(settings.items())]
    path.touch(mode=0o600)
    path.write_text("".join(lines))


def mesh_certificates(directory: Path) -> MeshCertificates:
    """Return the certificates of a stack's stages, which are created if there are none."""
    return load_or_create_mesh(directory / MESH_FOLDER)


def without_stores(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that names no store that was started here."""
    given = {name for name in STORE_ADDRESSES if os.environ.get(name)}
    return {key: value for key, value in env.items() if key in given or key not in STORE_ADDRESSES}


def with_own_stores(spec: ProcessSpec, stores: Stores, *, directory: Path) -> dict[str, str]:
    """Return a service's environment, in which it is its own user in the stores started here.

    `directory`: of the stack.
    """
    env = without_stores(spec.env)
    own = "SECKILL_GATEWAY_REDIS_URL" if spec.name == "gateway" else "SECKILL_REDIS_URL"
    started = not os.environ.get("SECKILL_REDIS_URL")
    env.setdefault(own, redis_url_of(spec.name, stores.redis_url) if started else stores.redis_url)
    if spec.name == "order" and "SECKILL_POSTGRES_DSN" not in env:
        env["SECKILL_POSTGRES_DSN"] = postgres_dsn_of_order(stores.postgres_dsn)
    if not os.environ.get("SECKILL_KAFKA_BOOTSTRAP"):
        env |= kafka_settings_of(spec.name, directory / KAFKA_FOLDER)
    return env


def command_settings(certificates: MeshCertificates) -> dict[str, str]:
    """Return the settings with which the command is an operator."""
    own = certificates.operator
    return {
        "SECKILL_TLS_CA": str(certificates.authority),
        "SECKILL_TLS_CERT": str(own.certificate),
        "SECKILL_TLS_KEY": str(own.key),
        "SECKILL_TLS_DOMAIN": MESH_DOMAIN,
    }


def service_specs(
    env: Mapping[str, str],
    *,
    ports: Mapping[str, Ports],
    directory: Path,
    certificates: MeshCertificates | None = None,
) -> list[ProcessSpec]:
    """Return the four processes with this environment; logs go to `directory`.

    `certificates`: each process has its own of them; None leaves all in clear.
    """
    return [
        ProcessSpec(
            name=service.name,
            command=[sys.executable, "-m", service.module],
            log_path=directory / f"{service.name}.log",
            env={
                **env,
                **(certificates.settings_of(service.name) if certificates else {}),
                "PYTHONPATH": str(REPOSITORY_ROOT),
            },
            cwd=REPOSITORY_ROOT,
            ready=GrpcReady(
                f"{LOOPBACK}:{ports[service.name].grpc}", service.service, mesh=certificates
            ),
            address=f"{LOOPBACK}:{ports[service.name].grpc}",
            stop_timeout_s=30.0,
            restarts_max=RESTARTS_MAX,
        )
        for service in SERVICES
    ]


def mesh() -> Services:
    """Return the services, as many replicas as SECKILL_LOCAL_REPLICAS says, for `Supervisor`."""
    return Services(specs=mesh_specs, ports=mesh_ports())


def mesh_ports() -> tuple[WantedPort, ...]:
    """Return the ports that the services and their further replicas listen on."""
    return (*service_ports(), *replica_ports(_further()))


def _further() -> tuple[Replica, ...]:
    return further_replicas(service.name for service in SERVICES)


def mesh_specs(
    stores: Stores, ports: Mapping[str, int], further: Mapping[str, str] | None = None
) -> list[ProcessSpec]:
    """Prepare topics, schema and secrets, then return what to run.

    Args:
        ports: by variable.
        further: settings of what else will run beside the services.

    Raises:
        StackError: a topic is refused.
        OSError: the stack's directory cannot be written.
    """
    directory = read_directory().absolute()
    by_service = _ports_by_service(ports)
    asyncio.run(_prepare(stores, secure=read_secure()))
    issuer = load_or_create(directory / "secrets")
    settings = {**service_environment(stores, ports=by_service, issuer=issuer), **(further or {})}
    replicas = _further()
    settings |= shared_targets(settings, replicas, ports)
    certificates = mesh_certificates(directory) if read_secure() else None
    for_command = command_settings(certificates) if certificates else {}
    write_environment(directory / "dev.env", {**settings, **for_command})
    # Variables of the caller win, so that `SECKILL_GATEWAY_FRONT=grpcio make up` does what it says.
    first = service_specs(
        {**settings, **os.environ},
        ports=by_service,
        directory=directory,
        certificates=certificates,
    )
    if certificates is not None:
        first = [
            replace(spec, env=with_own_stores(spec, stores, directory=directory)) for spec in first
        ]
    return [*first, *replica_specs(first, replicas, ports)]


async def _prepare(stores: Stores, *, secure: bool) -> None:
    # Slow to import, and not wanted by those who only ask what runs.
    from order_svc.db.migrate import migrate  # noqa: PLC0415

    await create_topics(stores.kafka_bootstrap, TOPICS, TOPIC_SETTINGS)
    if secure and not os.environ.get("SECKILL_KAFKA_BOOTSTRAP"):
        await grant_kafka_rights(stores.kafka_bootstrap)
    await migrate(stores.postgres_dsn)
