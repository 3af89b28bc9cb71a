"""What this service looks at before a sale: Postgres, the topic and its consumers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from order_svc.db.database import SCHEMA_VERSION, Database
from order_svc.db.durability import unsafe_settings
from order_svc.intake.group import read_group
from order_svc.rpc.operators import SETTING, Gate
from order_svc.settings import OrderSettings
from seckill.findings import FAILED, OK, WARNING, Check, Crowd, Finding, judged
from seckill.runtime.preflight.common import (
    certificates,
    clock_of,
    keys,
    readiness,
    version_finding,
)
from seckill.runtime.preflight.service import PreflightServicer

POSTGRES_LEAST = (14,)
# With one, a second replica of the service has nothing to do, and the topic one broker to write to.
PARTITIONS_MIN = 2
# Connections of one replica: its own, those of its webhooks, and what psql needs.
CONNECTIONS_SPARE = 3


def build_preflight(
    settings: OrderSettings,
    database: Database,
    *,
    operators: Gate,
    readiness_checks: Mapping[str, Callable[[], Awaitable[Any]]],
) -> PreflightServicer:
    """Return what operators ask before a sale.

    Args:
        operators: decides who may call.
        readiness_checks: those that the process is ready by.
    """
    stores = _Stores(settings, database)
    checks: list[Check] = [
        readiness(readiness_checks),
        stores.postgres_durability,
        stores.postgres,
        clock_of("postgres", stores.postgres_now_s),
        stores.consumers,
        stores.rate,
        keys(SETTING, settings.order_operator_jwks),
        certificates(settings),
    ]
    return PreflightServicer("order", checks, gate=operators)


class _Stores:
    """Looks at Postgres and Kafka."""

    def __init__(self, settings: OrderSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def postgres_durability(self, _: Crowd) -> Sequence[Finding]:
        problems = await unsafe_settings(self._database)
        advice = "ALTER SYSTEM SET each of them on, then SELECT pg_reload_conf()"
        return [judged("postgres durability", problems, advice=advice, verdict=FAILED)]

    async def postgres(self, _: Crowd) -> Sequence[Finding]:
        (row,) = await self._database.fetch("db/server")
        version = version_finding(
            "postgres version", f"PostgreSQL {row['version']}", least=POSTGRES_LEAST
        )
        schema = f"{row['revision']}, this release needs {SCHEMA_VERSION}"
        revision = Finding("schema", OK, schema)
        if row["revision"] < SCHEMA_VERSION:
            revision = Finding("schema", FAILED, schema, "python -m order_svc.db.migrate")
        return [version, revision, self._connections(row["connections_max"], row["connections"])]

    def _connections(self, most: int, taken: int) -> Finding:
        need = self._settings.postgres_connections_max + CONNECTIONS_SPARE
        found = f"{taken} of {most} are taken, a replica opens up to {need - CONNECTIONS_SPARE}"
        if taken + need > most:
            advice = "raise max_connections, or lower SECKILL_POSTGRES_CONNECTIONS_MAX"
            return Finding("postgres connections", WARNING, found, advice)
        return Finding("postgres connections", OK, found)

    async def postgres_now_s(self) -> float:
        (row,) = await self._database.fetch("db/server")
        return float(row["now_s"])

    async def consumers(self, _: Crowd) -> Sequence[Finding]:
        settings = self._settings
        group = await read_group(settings)
        topic = settings.orders_topic
        partitions = f"{topic} has {group.partitions}"
        findings = [Finding("partitions", OK, partitions)]
        if group.partitions < PARTITIONS_MIN:
            advice = f"kafka-topics.sh --alter --topic {topic} --partitions 12"
            findings = [Finding("partitions", FAILED, partitions, advice)]
        found = f"{group.members} in {settings.order_consumer_group}"
        unassigned = group.partitions - len(group.assigned)
        if not group.members or unassigned:
            found += f", {unassigned} partitions without one"
            advice = "start the order service, or wait until its group has rebalanced; its log says"
            findings.append(Finding("consumers", FAILED, found, advice))
        elif group.members > group.partitions:
            advice = f"more partitions, or {group.partitions} replicas"
            findings.append(Finding("consumers", WARNING, f"{found}, some idle", advice))
        else:
            findings.append(Finding("consumers", OK, f"{found}, every partition has one"))
        if group.lag:
            advice = "seckill top: wait until it is 0, or see why it is not"
            found = f"{group.lag} reservation events are not orders yet"
            findings.append(Finding("lag", WARNING, found, advice))
        return findings

    async def rate(self, crowd: Crowd) -> Sequence[Finding]:
        most = self._settings.order_rate_max_per_s
        if not most:
            return [Finding("consume rate", OK, "not limited")]
        found = f"{most} orders a second of this replica"
        needed_s = crowd.units / most
        if needed_s > crowd.seconds:
            advice = "raise SECKILL_ORDER_RATE_MAX_PER_S, or expect orders to lag"
            found += f": {crowd.units:,} units take {needed_s:.0f} s"
            return [Finding("consume rate", WARNING, found, advice)]
        return [Finding("consume rate", OK, found)]
