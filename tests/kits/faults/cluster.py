"""Services of a test as processes on stores of its own: each can be killed, frozen, replicated."""

import asyncio
import os
import signal
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grpc

from devstack import Process, Stores
from devstack.deadline import drive
from devstack.mesh import Ports, claim_ports, service_environment, service_specs
from devstack.ports import LOOPBACK, pick_free_port
from seckill.runtime.dev_issuer import load_or_create
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.kits.faults.reading import StoreReader
from tests.kits.mesh import FREE_PORTS
from tests.kits.planted_bug import chosen, command_with
from tests.kits.stores import Topics
from tests.kits.waiting import eventually, exited, logged

CALL_S = 10.0
# A caller finds a service that came back within 300 ms.
CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
# Short enough for a test. They change when things are done, never what is done.
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
    """Return the name of the topic that the cluster of this consumer group writes events to."""
    return f"order-events-{group}"


class Cluster:
    """Services that a test starts one by one, each with the settings and failpoints it wants."""

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
        """Choose ports and settings; start nothing.

        Args:
            group: of the consumers.
            reader: looks into the same stores.
            bug: planted in all services; by default the one that the environment names.
        """
        self._bug = bug or chosen()
        self.reader = reader
        self.group = group
        self.topics = topics
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

    async def start(self, *services: str, failpoints: str = "", **settings: str) -> None:
        """Start services side by side and wait until they are ready; see `launch`."""
        await self.launch(*services, failpoints=failpoints, **settings)
        await self.wait_ready(*services)

    async def launch(self, *services: str, failpoints: str = "", **settings: str) -> None:
        """Start services that may die before they are ready.

        Args:
            services: "inventory", or "inventory/b" for another replica of it.
            failpoints: armed in these processes.
            settings: field name → value, for these processes.
        """
        variables = {f"SECKILL_{name.upper()}": value for name, value in settings.items()}
        variables["SECKILL_FAILPOINTS"] = failpoints
        for service in services:
            self._processes[service] = await asyncio.to_thread(self._process, service, variables)

    def _process(self, service: str, variables: Mapping[str, str]) -> Process:
        name, _, replica = service.partition("/")
        ports = {**self._ports, name: self._ports_of(service)}
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

    async def wait_ready(self, *services: str) -> None:
        """Wait until services that were launched are ready; raises StackError if one has died."""
        waits = [self._processes[service].wait_ready() for service in services]
        await asyncio.to_thread(drive, waits)

    async def wait_exit(self, service: str, *, timeout_s: float = 20.0) -> int:
        """Wait until a service has ended by itself, and return its exit code.

        Raises:
            AssertionError: it still runs after `timeout_s`.
        """
        await exited(self._processes[service].pid, timeout_s=timeout_s)
        code = self.exit_code(service)
        assert code is not None
        return code

    def exit_code(self, service: str) -> int | None:
        """Return a service's exit code, or None while it runs."""
        return self._processes[service].returncode

    def freeze(self, service: str) -> None:
        """Send SIGSTOP: the service does nothing, and its connections stay open."""
        self._processes[service].send(signal.SIGSTOP)

    def thaw(self, service: str) -> None:
        """Send SIGCONT to a frozen service."""
        self._processes[service].send(signal.SIGCONT)

    async def kill(self, service: str) -> None:
        """Kill a service with SIGKILL."""
        await asyncio.to_thread(self._processes[service].kill)

    async def terminate(self, service: str) -> int:
        """Stop a service with SIGTERM, and return its exit code."""
        await asyncio.to_thread(self._processes[service].stop)
        return self._processes[service].returncode or 0

    def stop(self) -> None:
        """Kill what runs, last started first."""
        while self._processes:
            self._processes.popitem()[1].kill()

    def _ports_of(self, service: str) -> Ports:
        if service in self._ports:
            return self._ports[service]
        if service not in self._replicas:
            self._replicas[service] = Ports(grpc=pick_free_port(), metrics=pick_free_port())
        return self._replicas[service]

    def port(self, service: str) -> int:
        """Return the port of loopback where a service listens, or will once it is started."""
        return self._ports_of(service).grpc

    def address(self, service: str) -> str:
        """Return the host:port of a service."""
        return f"{LOOPBACK}:{self.port(service)}"

    def channel(self, service: str) -> grpc.aio.Channel:
        """Open a channel to a service."""
        return grpc.aio.insecure_channel(self.address(service), options=CHANNEL_OPTIONS)

    async def open_sale(self, terms: sale_pb2.SaleTerms) -> str:
        """Create a sale, and return its sku. Inventory may not have found the order service yet."""
        async with self.channel("inventory") as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)

            async def created() -> bool:
                try:
                    await stub.CreateSale(
                        inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_S
                    )
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False
                return True

            await eventually(created, timeout_s=CALL_S)
        return terms.sku

    async def metric(self, service: str, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels, 0 if there are none."""
        url = f"http://{LOOPBACK}:{self._ports_of(service).metrics}/metrics"

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

    def last_log_line(self, service: str) -> str:
        """Return the last complaint in a service's log, or else its last line."""
        return self._processes[service].last_log_line()

    async def logged(self, service: str, text: str) -> str:
        """Wait until a service has logged a line with `text`, and return that line."""
        return await logged(self._processes[service].spec.log_path, text)
