"""The order line of a test: stages as processes on the test's own stores, that can be killed."""

import asyncio
import os
import signal
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grpc

from deploy.local import Process, Stores
from deploy.local.deadline import drive
from deploy.local.mesh import Ports, claim_ports, service_environment, service_specs
from deploy.local.ports import LOOPBACK, pick_free_port
from seckill.dev_issuer import load_or_create
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.conftest import Topics
from tests.faults.reading import StoreReader
from tests.faults.sabotage.registry import chosen
from tests.faults.sabotaged import command_with
from tests.mesh import FREE_PORTS
from tests.waiting import eventually

CALL_S = 10.0
# A caller finds a stage that came back soon, as a patient one does in production.
CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
# Short enough for a test; none of them changes what is done, only when.
QUICK = {
    "SECKILL_INVENTORY_RELAY_CLAIM_IDLE_S": "1",
    "SECKILL_INVENTORY_RELAY_DELIVERY_TIMEOUT_S": "2",
    "SECKILL_INVENTORY_RELAY_BACKOFF_MAX_S": "0.5",
    "SECKILL_ORDER_BACKOFF_MAX_S": "0.5",
    "SECKILL_ROLLBACK_INTERVAL_S": "0.2",
    "SECKILL_ROLLBACK_LEASE_S": "1",
    "SECKILL_ROLLBACK_DATABASE_INTERVAL_S": "0.5",
    "SECKILL_ROLLBACK_BACKOFF_MAX_S": "0.5",
    "SECKILL_DRAIN_TIMEOUT_S": "5",
}


def events_topic(group: str) -> str:
    """Where a line's order events go."""
    return f"order-events-{group}"


class Line:
    """Stages, each started by the test with the faults it wants."""

    def __init__(
        self,
        stores: Stores,
        *,
        topics: Topics,
        group: str,
        directory: Path,
        reader: StoreReader,
        bug: str = "",
    ) -> None:
        """Describe it; nothing is started.

        Args:
            group: of the consumers.
            reader: looks into the same stores.
            bug: planted in all stages; by default what the environment asks for.
        """
        self._bug = bug or chosen()
        self.reader = reader
        self.group = group
        self.issuer = load_or_create(directory / "secrets")
        self._directory = directory
        self._ports = claim_ports(FREE_PORTS)
        inherited = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
        self._environment = {
            **inherited,
            **service_environment(stores, ports=self._ports, issuer=self.issuer),
            **QUICK,
            "SECKILL_ORDERS_TOPIC": topics.orders,
            "SECKILL_DEAD_LETTER_TOPIC": topics.dead_letters,
            "SECKILL_ORDER_EVENTS_TOPIC": events_topic(group),
            "SECKILL_ORDER_CONSUMER_GROUP": group,
        }
        self._replicas: dict[str, Ports] = {}
        self._processes: dict[str, Process] = {}

    async def start(self, *stages: str, failpoints: str = "", **settings: str) -> None:
        """Start stages side by side and wait until they are ready; see `begin`."""
        await self.begin(*stages, failpoints=failpoints, **settings)
        await self.ready(*stages)

    async def begin(self, *stages: str, failpoints: str = "", **settings: str) -> None:
        """Start stages that may die before they are ready.

        Args:
            stages: "inventory", or "inventory/b" for another replica of it.
            failpoints: armed in these processes.
            settings: field name → value, for these processes.
        """
        variables = {f"SECKILL_{name.upper()}": value for name, value in settings.items()}
        variables["SECKILL_FAILPOINTS"] = failpoints
        for stage in stages:
            self._processes[stage] = await asyncio.to_thread(self._process, stage, variables)

    def _process(self, stage: str, variables: Mapping[str, str]) -> Process:
        name, _, replica = stage.partition("/")
        ports = {**self._ports, name: self._ports_of(stage)}
        prefix = f"SECKILL_{name.upper()}"
        listens = {
            f"{prefix}_LISTEN": f"{LOOPBACK}:{ports[name].grpc}",
            f"{prefix}_METRICS_LISTEN": f"{LOOPBACK}:{ports[name].metrics}",
        }
        specs = service_specs(
            {**self._environment, **listens, **variables},
            ports=ports,
            directory=self._directory / (replica or "first"),
        )
        spec = next(spec for spec in specs if spec.name == name)
        return Process(replace(spec, command=command_with(spec.command, self._bug)))

    async def ready(self, *stages: str) -> None:
        """Wait until stages that were begun are ready; raises StackError where one has died."""
        waits = [self._processes[stage].wait_ready() for stage in stages]
        await asyncio.to_thread(drive, waits)

    async def died(self, stage: str, *, timeout_s: float = 20.0) -> int:
        """Wait until a stage has ended by itself; returns its exit code."""

        async def exit_code() -> int | None:
            return self.exit_code(stage)

        code = await eventually(exit_code, lambda seen: seen is not None, timeout_s=timeout_s)
        assert code is not None
        return code

    def exit_code(self, stage: str) -> int | None:
        """How a stage has ended; None while it runs."""
        return self._processes[stage].returncode

    def freeze(self, stage: str) -> None:
        """SIGSTOP: its connections stay open, and it does nothing."""
        self._processes[stage].send(signal.SIGSTOP)

    def thaw(self, stage: str) -> None:
        """SIGCONT."""
        self._processes[stage].send(signal.SIGCONT)

    async def kill(self, stage: str) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self._processes[stage].kill)

    async def terminate(self, stage: str) -> int:
        """SIGTERM; returns the exit code."""
        await asyncio.to_thread(self._processes[stage].stop)
        return self._processes[stage].returncode or 0

    def stop(self) -> None:
        """End what runs, last first."""
        while self._processes:
            self._processes.popitem()[1].kill()

    def _ports_of(self, stage: str) -> Ports:
        if stage in self._ports:
            return self._ports[stage]
        if stage not in self._replicas:
            self._replicas[stage] = Ports(grpc=pick_free_port(), metrics=pick_free_port())
        return self._replicas[stage]

    def address(self, stage: str) -> tuple[str, int]:
        """(host, port) where a stage listens, or will."""
        return LOOPBACK, self._ports_of(stage).grpc

    def channel(self, stage: str) -> grpc.aio.Channel:
        """A new channel to a stage."""
        return grpc.aio.insecure_channel(
            f"{LOOPBACK}:{self._ports_of(stage).grpc}", options=CHANNEL_OPTIONS
        )

    async def open_sale(self, terms: sale_pb2.SaleTerms) -> str:
        """Create a sale; returns its sku."""
        async with self.channel("inventory") as channel:
            await inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
                inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_S
            )
        return terms.sku

    async def metric(self, stage: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 where there are none."""
        url = f"http://{LOOPBACK}:{self._ports_of(stage).metrics}/metrics"

        def read() -> str:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())

        lines = (await asyncio.to_thread(read)).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [
            line
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{")) and all(text in line for text in wanted)
        ]
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def last_words(self, stage: str) -> str:
        """The last complaint in its log."""
        return self._processes[stage].last_log_line()

    def log(self, stage: str) -> str:
        """What a stage has logged."""
        return self._processes[stage].spec.log_path.read_text()
