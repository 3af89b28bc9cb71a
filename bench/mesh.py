"""The real mesh without a load: stores and services for all sales, a gateway for each."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

import grpc

from bench.cores import LOWEST_NICE, Cores, cpu_s, pin, usable
from bench.services import Service, Services
from devstack import LocalSettings, LocalStack, create_topics
from devstack.mesh import TOPICS
from order_svc.db.migrate import migrate
from seckill.client.transport import authorization
from seckill.runtime.gate_limits import UNPAID_ORDERS
from seckill.v1 import gate_pb2, gate_pb2_grpc, inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill_cli.demo.verdict import StoreTotals, read_totals

CALL_TIMEOUT_S = 10.0
SETTLE_TIMEOUT_S = 30.0
POLL_S = 0.1
BEHIND_NICER = 5
# Nobody pays in the drill, and nothing may come back before its end.
PAYMENT_WINDOW = timedelta(days=1)


class Mesh:
    """Stores, inventory, orders and rollback; a context manager that stops them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cores = usable()
        self._exits = ExitStack()

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
        stack = LocalStack(LocalSettings(directory=self._directory / "stores"))
        self._exits.enter_context(stack)
        self._stack = stack
        self.stores = stack.stores
        self.versions = stack.components()
        asyncio.run(create_topics(self.stores.kafka_bootstrap, TOPICS))
        asyncio.run(migrate(self.stores.postgres_dsn))
        self._services = Services(self.stores, directory=self._directory)
        self.issuer = self._services.issuer
        self.order = self._start_main("order")
        self.inventory = self._start_main("inventory")
        self.rollback = self._start_main("rollback")

    def _start_main(self, name: str) -> Service:
        service = self._services.start(name, cores=self._cores, main=True)
        self._exits.callback(service.stop)
        return service

    def path_cpu_s(self, gateway: Service) -> dict[str, float]:
        """Return the seconds of CPU that each process on the path of a purchase has used."""
        valkey = self._stack.valkey
        assert valkey  # noqa: S101 - not external
        pids = {"gateway": gateway.pid, "inventory": self.inventory.pid, "redis": valkey.pid}
        return {name: cpu_s(pid) for name, pid in pids.items()}

    def place(self, gateway: Service, cores: Cores) -> None:
        """Give the path of a purchase the servers' cores, and what works behind it the others."""
        stack = self._stack
        assert stack.valkey and stack.kafka and stack.postgres  # noqa: S101, PT018 - not external
        for path in (gateway, self.inventory, stack.valkey):
            pin(path.pid, cores.servers)
        for behind in (self.order, self.rollback, stack.kafka, stack.postgres):
            # Behind the generator, and not starved: orders are waited for.
            nice = min(LOWEST_NICE, os.getpriority(os.PRIO_PROCESS, 0) + BEHIND_NICER)
            pin(behind.pid, cores.others, nice=nice)

    def store_pids(self) -> dict[str, list[int]]:
        """Return the process of each store."""
        stack = self._stack
        assert stack.valkey and stack.kafka and stack.postgres  # noqa: S101, PT018 - not external
        stores = {"redis": stack.valkey, "kafka": stack.kafka, "postgres": stack.postgres}
        return {name: [store.pid] for name, store in stores.items()}

    def gateway(self, settings: Mapping[str, str]) -> AbstractContextManager[Service]:
        """Run a gateway with these settings."""
        return self.further("gateway", settings)

    @contextmanager
    def further(self, name: str, settings: Mapping[str, str]) -> Iterator[Service]:
        """Run one more process of a service, with these settings."""
        service = self._services.start(name, cores=self._cores, settings=settings)
        try:
            yield service
        finally:
            service.stop()

    def create_sale(self, sku: str, *, units: int, starts_s: float) -> None:
        """Put a sale on offer; `starts_s` is Unix time."""
        terms = sale_pb2.SaleTerms(
            sku=sku,
            title="Drill",
            total_units=units,
            unit_price=sale_pb2.Money(currency="EUR", minor_units=100),
            purchase_limit=1,
        )
        terms.start_time.FromMilliseconds(int(starts_s * 1000))
        terms.end_time.FromMilliseconds(int((starts_s + 86_400) * 1000))
        terms.payment_window.FromTimedelta(PAYMENT_WINDOW)
        with grpc.insecure_channel(self.inventory.address) as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            stub.CreateSale(inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S)

    def set_rules(
        self, sku: str, *, challenge_at: int, refuse_at: int, unpaid_orders_max: int
    ) -> None:
        """Say as an operator what a sale asks of its buyers, and how many orders may be unpaid."""
        metadata = (authorization(self.issuer.token("operator", roles=["operator"])),)
        policy = gate_pb2.SalePolicy(sku=sku, challenge_at=challenge_at, refuse_at=refuse_at)
        cap = gate_pb2.GateLimit(name=UNPAID_ORDERS, value=unpaid_orders_max)
        with grpc.insecure_channel(self.order.address) as channel:
            stub = gate_pb2_grpc.GateRulesServiceStub(channel)
            stub.SetSalePolicy(
                gate_pb2.SetSalePolicyRequest(policy=policy),
                metadata=metadata,
                timeout=CALL_TIMEOUT_S,
            )
            stub.SetLimits(
                gate_pb2.SetLimitsRequest(limits=[cap]), metadata=metadata, timeout=CALL_TIMEOUT_S
            )

    def sold(self, sku: str) -> dict[str, int]:
        """Wait until all orders of a sale are written; return their units by buyer.

        Raises:
            TimeoutError: reservations have not become orders in time.
        """
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        while not _settled(totals := asyncio.run(read_totals(self.stores, sku))):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{sku}: not all reservations have become orders")
            time.sleep(POLL_S)
        units: dict[str, int] = {}
        for _, user_id, state, quantity in totals.orders:
            if state in {"pending", "paid"}:
                units[user_id] = units.get(user_id, 0) + quantity
        return units


def _settled(totals: StoreTotals) -> bool:
    written = {number for number, _, state, _ in totals.orders if state in {"pending", "paid"}}
    return totals.backlog == 0 and written == totals.live_holds
