"""The real stack, the baselines and the load, started once for a whole run."""

import asyncio
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import asyncpg
import grpc
import redis

from bench.cores import LOWEST_NICE, Cores, cpu_s, pin, resident_mib
from bench.edge import AGENT, ENVOY, Edge
from bench.load import Clocks, Load
from bench.quiet import Quiet
from bench.sample import InvalidSample, Sample
from bench.services import Service, Services, python_module, start_program
from bench.sizes import Sizes
from devstack import LocalSettings, LocalStack, Process, StackError, create_topics
from devstack.mesh import DEAD_LETTER_PARTITIONS, ORDERS_PARTITIONS, TOPICS
from devstack.ports import pick_free_port
from inventory_svc.keys import users_key
from order_svc.db.migrate import migrate
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tools.install import BIN

SETTLE_TIMEOUT_S = 120.0
POLL_S = 0.1
# The processes on the path of a purchase.
PATH = ("gateway", "inventory", "redis")
# The same through the edge.
PUBLIC_PATH = (ENVOY, AGENT, *PATH)
# The processes on the path of an order, from the attempt to its row.
WHOLE_PATH = (*PATH, "kafka", "order", "postgres")
# Processes that work when those have answered.
BEHIND = ("kafka", "postgres", "order", "rollback")
CONSUMED = "seckill_reservations_consumed_total "
# Orders of a run are not paid, and must not expire before its end.
PAYMENT_WINDOW = timedelta(days=1)


class World:
    """Everything that runs during a benchmark; a context manager that stops it."""

    def __init__(self, sizes: Sizes, *, directory: Path) -> None:
        self.sizes = sizes
        self.cores = Cores.split()
        self.directory = directory
        self.startup_s: dict[str, float] = {}
        # Bytes of memory that one of something takes, by what it is.
        self.bytes_each: dict[str, float] = {}
        # What a reader of a sample must know, by its name.
        self.notes: dict[str, str] = {}
        # (offered, good) in multiples of the peak, by what was offered it.
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.quiet = Quiet(sizes.quiet_budget_s)
        # Calls a second of closed loops so far, of "echo" and "purchase".
        self.capacity: Mapping[str, float] = {}
        self._stack = LocalStack(LocalSettings(directory=directory / "stores"))
        self._exits = ExitStack()
        self._pids: dict[str, int] = {}
        self._orders_expected = 0
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _start(self) -> None:
        self._exits.callback(self._loop.close)
        start_s = time.monotonic()
        self._exits.enter_context(self._stack)
        self.startup_s["stores"] = time.monotonic() - start_s
        self.stores = self._stack.stores
        self.versions = self._stack.components()
        self._place_stores()
        self.wait_for(create_topics(self.stores.kafka_bootstrap, TOPICS))
        self.wait_for(migrate(self.stores.postgres_dsn))
        self.redis = redis.Redis.from_url(self.stores.redis_url)
        self._exits.callback(self.redis.close)
        self.services = Services(self.stores, directory=self.directory)
        self.order = self._start_main("order", behind=True)
        self.inventory = self._start_main("inventory")
        self.rollback = self._start_main("rollback", behind=True)
        self.gateway = self._start_main("gateway")
        self._edge = self._start_edge()
        self.echo_address = self._start_echo()
        self.rival_address = self._start_rival()
        cores = self.cores.others
        self.load = self._exits.enter_context(Load(BIN / "bench-load", cores=cores))
        # A second one, for the few who pay while the first one offers too much.
        self.payers = self._exits.enter_context(
            Load(BIN / "bench-load", cores=cores, prefix="payer")
        )

    def _place_stores(self) -> None:
        """Redis is on the path of a purchase; Kafka and Postgres work behind it."""
        stack = self._stack
        assert stack.valkey and stack.kafka and stack.postgres  # noqa: S101, PT018 - not external
        self._pids["redis"] = stack.valkey.pid
        self._pids["kafka"] = stack.kafka.pid
        self._pids["postgres"] = stack.postgres.pid
        pin(stack.valkey.pid, self.cores.servers)
        for server in (stack.kafka, stack.postgres):
            pin(server.pid, self.cores.others, nice=LOWEST_NICE)

    def _start_main(self, name: str, *, behind: bool = False) -> Service:
        """`behind`: not on the path of a purchase, so it must not take the load's time."""
        cores = self.cores.others if behind else self.cores.servers
        nice = LOWEST_NICE if behind else 0
        service = self.services.start(name, cores=cores, nice=nice, main=True)
        self._exits.callback(service.stop)
        self._pids[name] = service.pid
        self.startup_s[name] = service.startup_s
        return service

    def _start_edge(self) -> Edge | StackError:
        """Without it the rest can still be measured."""
        try:
            edge = Edge(self.services, directory=self.directory, cores=self.cores.servers)
        except StackError as error:
            return error
        self._exits.callback(edge.stop)
        self._pids |= edge.pids
        self.startup_s |= edge.startup_s
        return edge

    @property
    def edge(self) -> Edge:
        """The edge. Raises InvalidSample if there is none."""
        if isinstance(self._edge, StackError):
            raise InvalidSample(str(self._edge))
        return self._edge

    def _start_echo(self) -> str:
        address = f"127.0.0.1:{pick_free_port()}"
        self._start_server("echo", python_module("bench.baselines.echo", address), address)
        return address

    def _start_rival(self) -> str:
        address = f"127.0.0.1:{pick_free_port()}"
        self.rival_http_address = f"127.0.0.1:{pick_free_port()}"
        issuer = self.services.issuer
        command = [
            *(str(BIN / "bench-rival"), "-listen", address, "-token-ttl", "2h"),
            *("-http", self.rival_http_address),
            *("-redis", self.redis_address, "-jwks", str(issuer.jwks_path)),
            *("-issuer", issuer.issuer, "-audience", issuer.audience),
        ]
        self._start_server("rival", command, address)
        return address

    def _start_server(self, name: str, command: list[str], address: str) -> None:
        start_s = time.monotonic()
        process = start_program(command, name=name, directory=self.directory, address=address)
        self.startup_s[name] = time.monotonic() - start_s
        self._exits.callback(process.stop)
        self._pids[name] = process.pid
        pin(process.pid, self.cores.servers)

    @property
    def redis_address(self) -> str:
        """host:port of Redis."""
        return self.stores.redis_url.removeprefix("redis://").partition("/")[0]

    def redis_url(self, database: int) -> str:
        """Another database of the same Redis."""
        return f"redis://{self.redis_address}/{database}"

    def lower_behind(self) -> None:
        """Keep what is not on the path of a purchase from taking the load's time, with all that it
        has started since.
        """
        for name in BEHIND:
            pin(self._pids[name], self.cores.others, nice=LOWEST_NICE)

    def pid(self, name: str) -> int:
        """Process id of a store, a service, the echo or the rival."""
        return self._pids[name]

    def clocks(self, *names: str, more: Mapping[str, Service | Process] | None = None) -> Clocks:
        """Reads the CPU used by these processes, and by `more` of them."""
        pids = {name: self._pids[name] for name in names}
        pids |= {name: one.pid for name, one in (more or {}).items()}
        return lambda: {name: cpu_s(pid) for name, pid in pids.items()}

    def held_bytes(self) -> dict[str, float]:
        """Memory of the gateway, as the kernel sees it, and of Redis, as it says itself; files of
        the database.
        """
        used: Any = self.redis.info("memory")
        connection = self.postgres()
        size = self.wait_for(connection.fetchval("SELECT pg_database_size(current_database())"))
        self.wait_for(connection.close())
        return {
            "gateway": resident_mib(self._pids["gateway"]) * 2**20,
            "redis": float(used["used_memory"]),
            "postgres": float(size),
        }

    def restart_rollback(self) -> None:
        """Start the rollback service that was stopped."""
        self.rollback = self._start_main("rollback", behind=True)

    def memory_mib(self) -> dict[str, float]:
        """Memory of each process."""
        return {name: resident_mib(pid) for name, pid in self._pids.items()}

    def used_cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that each process has used since its start."""
        return {name: cpu_s(pid) for name, pid in self._pids.items()}

    def wait_for(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def create_topics(self, orders: str) -> None:
        """Create an orders topic and that of its dead letters, beside those of the mesh."""
        partitions = {orders: ORDERS_PARTITIONS, f"{orders}.dlq": DEAD_LETTER_PARTITIONS}
        self.wait_for(create_topics(self.stores.kafka_bootstrap, partitions))

    def postgres(self) -> "asyncpg.Connection":
        """A connection of the harness; close it with `wait_for(connection.close())`."""
        return self.wait_for(asyncpg.connect(self.stores.postgres_dsn))

    def create_sale(self, *, units: int, address: str = "", prefix: str = "bench") -> str:
        """A new sale, open now; its sku.

        Args:
            units: for sale.
            address: an inventory service; the main one unless given.
        """
        terms = sale_pb2.SaleTerms(
            sku=f"{prefix}-{uuid.uuid4().hex[:12]}",
            title="Benchmark",
            total_units=units,
            unit_price=sale_pb2.Money(currency="EUR", minor_units=100),
        )
        terms.payment_window.FromTimedelta(PAYMENT_WINDOW)
        terms.end_time.FromMilliseconds(int((time.time() + 86_400) * 1000))
        with grpc.insecure_channel(address or self.inventory.address) as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            stub.CreateSale(inventory_pb2.CreateSaleRequest(terms=terms), timeout=10)
        return terms.sku

    def create_rival_sale(self, *, units: int) -> str:
        """A new sale of the rival; its sku."""
        sku = f"rival-{uuid.uuid4().hex[:12]}"
        terms: dict[Any, Any] = {
            "state": "open",
            "start_ms": 0,
            "end_ms": int((time.time() + 86_400) * 1000),
            "limit": 1,
            "epoch": 1,
        }
        self.redis.hset(f"rival:sale:{{{sku}}}", mapping=terms)
        self.redis.set(f"rival:stock:{{{sku}}}", units)
        return sku

    def issue(self, sku: str, *, buyers: int, first: int = 0, target: str = "") -> Sample:
        """Have a purchase token issued to each of `buyers` buyers, from the `first` on."""
        self.load.mint(first + buyers, self.services.issuer)
        target = target or self.gateway.address
        return self.load.run(
            "issue", target, sku=sku, first=first, buyers=buyers, total=buyers
        ).require()

    @property
    def json_address(self) -> str:
        """Where the gateway itself answers JSON. Raises InvalidSample if it does not."""
        try:
            with urllib.request.urlopen(f"http://{self.gateway.address}/v1/sales", timeout=10):
                return self.gateway.address
        except (OSError, HTTPException) as error:
            raise InvalidSample("the gateway's own port does not answer JSON") from error

    def expect_orders(self, sample: Sample) -> None:
        """Tell how many reservations are on their way to the order service."""
        self._orders_expected += sample.outcomes.get("RESERVED", 0)

    def expect_held(self, sku: str, *, counted: int = 0) -> int:
        """The same for all that this sale's buyers hold, whether or not they were told.

        `counted` of them were told before. Returns how many there are.
        """
        held = int(self.redis.hlen(users_key(sku)))
        self._orders_expected += held - counted
        return held

    def settle(self) -> None:
        """Wait until every reservation has become an order."""
        self.poll_until(lambda: self.consumed(self.order) >= self._orders_expected)

    @classmethod
    def consumed(cls, order: Service) -> int:
        """Reservations that an order service has dealt with."""
        return cls.metric(order, CONSUMED)

    @staticmethod
    def metric(service: Service, series: str) -> int:
        """The value of a series, by what its line begins with; 0 if there is none."""
        with urllib.request.urlopen(service.metrics_url, timeout=10) as answer:  # noqa: S310 - our own
            for line in answer.read().decode().splitlines():
                if line.startswith(series):
                    return int(float(line.removeprefix(series)))
        return 0

    @staticmethod
    def poll_until(
        holds: Callable[[], bool],
        *,
        interval_s: float = POLL_S,
        timeout_s: float = SETTLE_TIMEOUT_S,
    ) -> None:
        """Wait until `holds` is true. Raises InvalidSample if it is not in time."""
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise InvalidSample(f"waited for {timeout_s:.0f} s in vain")
            time.sleep(interval_s)
