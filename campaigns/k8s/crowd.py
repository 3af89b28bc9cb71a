"""Buyers in a pod of their own: they come until they are told to stop, then the stores are counted.

Runs in the product's image from a ConfigMap, so it imports only what that has. It says `started`
once buyers come, stops when the file STOP is there, and prints the result as its last line, JSON.
"""

import asyncio
import json
import os
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import grpc
import redis.asyncio
from google.protobuf.duration_pb2 import Duration

from seckill.client import Call, CallFailed, Outcome, RetryPolicy, SeckillClient
from seckill.runtime.dev_issuer import DevIssuer, load_or_create
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2

STOP = Path("/tmp/stop")  # noqa: S108 - the pod's own
KEYS = Path("/keys")
# An operator's certificate, if services demand one.
MESH = Path("/mesh")
PRICE = sale_pb2.Money(currency="CNY", minor_units=990)
CONNECTIONS = 8
PATIENCE_S = 45.0
SALE_S = 3600
SETTLE_TIMEOUT_S = 120.0
POLL_S = 0.2
# Every second buyer wants the sale that is soon sold out.
SALES = ("deep", "scarce")


class Crowd:
    """Buyers of two sales, and what they were told."""

    def __init__(self, clients: list[SeckillClient], issuer: DevIssuer, skus: list[str]) -> None:
        self._clients = clients
        self._issuer = issuer
        self._skus = skus
        self.buyers = 0
        self.answers: Counter[str] = Counter()
        self.hidden: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.order_numbers: dict[str, set[str]] = {sku: set() for sku in skus}
        self.in_doubt = 0

    async def come(self, per_second: float) -> None:
        """Let buyers come, evenly, until the file STOP is there."""
        async with asyncio.TaskGroup() as group:
            start_s = time.monotonic()
            while not STOP.exists():  # noqa: ASYNC240 - a look at memory
                group.create_task(self._buy(self.buyers))
                self.buyers += 1
                await asyncio.sleep(max(0.0, start_s + self.buyers / per_second - time.monotonic()))

    async def _buy(self, number: int) -> None:
        sku = self._skus[number % len(self._skus)]
        start_s = time.monotonic()
        client = self._clients[number % len(self._clients)].acting_for(
            self._issuer.token(f"{sku}-{number}"),
            policy=RetryPolicy(pause_max_s=0.5),
            on_call=self._note,
        )
        try:
            answer = await client.buy(sku, timeout_s=PATIENCE_S)
        except CallFailed as failure:
            self.failed[failure.reason or failure.code.name] += 1
            self.in_doubt += 1
        else:
            self.answers[answer.outcome] += 1
            if answer.order_no:
                self.order_numbers[sku].add(answer.order_no)
        self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)

    def _note(self, call: Call) -> None:
        # While a sale is sold out, that is a status; it is an answer, and nothing repeats the call.
        if call.failure is not None and call.failure.reason != Outcome.SOLD_OUT.name:
            self.hidden[call.failure.reason or call.failure.code.name] += 1


def inventory_channel() -> grpc.aio.Channel:
    """Return a channel to the inventory service, as an operator if services demand certificates."""
    target = os.environ["INVENTORY"]
    if not MESH.exists():
        return grpc.aio.insecure_channel(target)
    authority, key, certificate = (
        (MESH / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")
    )
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.aio.secure_channel(target, credentials)


async def create_sale(sku: str, units: int) -> None:
    """Put units on sale, to be paid within an hour."""
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Campaign",
        total_units=units,
        unit_price=PRICE,
        purchase_limit=1,
        payment_window=Duration(seconds=SALE_S),
    )
    terms.start_time.GetCurrentTime()
    terms.end_time.FromSeconds(terms.start_time.seconds + SALE_S)
    async with inventory_channel() as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        await stub.CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=10, wait_for_ready=True
        )


async def count(sku: str, units: int, told: set[str]) -> dict[str, int]:
    """Count the stores' units and orders once nothing is under way any more."""
    client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
    database = await asyncpg.connect(os.environ["POSTGRES_DSN"])
    deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
    try:
        while True:
            remaining = int(await client.get(f"seckill:stock:{{{sku}}}") or -1)
            backlog = await client.xlen(f"seckill:outbox:{{{sku}}}")
            rows = await database.fetch(
                "SELECT order_no, quantity FROM orders"
                " WHERE sku = $1 AND status IN ('pending', 'paid')",
                sku,
            )
            sold = sum(row["quantity"] for row in rows)
            if (backlog == 0 and sold == units - remaining) or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(POLL_S)
    finally:
        await database.close()
        await client.aclose()
    numbers = {row["order_no"] for row in rows}
    return {
        "units": units,
        "remaining": remaining,
        "orders": len(rows),
        "oversold": max(0, sold - units),
        "lost": len(told - numbers),
        "unaccounted": abs(units - remaining - sold) + len(numbers - told),
    }


async def main() -> None:
    """Sell, count, print."""
    run = uuid.uuid4().hex[:6]
    units = {f"{name}-{run}": int(os.environ[f"UNITS_{name.upper()}"]) for name in SALES}
    for sku, total in units.items():
        await create_sale(sku, total)
    issuer = load_or_create(KEYS)
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(
                SeckillClient(
                    os.environ["TARGET"], options=(("grpc.use_local_subchannel_pool", 1),)
                )
            )
            for _ in range(CONNECTIONS)
        ]
        crowd = Crowd(clients, issuer, list(units))
        print("started", flush=True)  # noqa: T201 - the campaign waits for it
        start_s = time.monotonic()
        await crowd.come(float(os.environ["PER_SECOND"]))
        seconds = time.monotonic() - start_s
    counts = [await count(sku, total, crowd.order_numbers[sku]) for sku, total in units.items()]
    # A buyer who was told nothing may hold a unit: their order is not unaccounted for.
    sums = {name: sum(each[name] for each in counts) for name in counts[0]}
    sums["unaccounted"] = max(0, sums["unaccounted"] - crowd.in_doubt)
    result = {
        "seconds": round(seconds, 1),
        "buyers": crowd.buyers,
        "reserved": crowd.answers[Outcome.RESERVED],
        "sold_out": crowd.answers[Outcome.SOLD_OUT],
        "failed": dict(crowd.failed),
        "hidden_by_retries": dict(crowd.hidden),
        "slowest_s": round(crowd.slowest_s, 2),
        **sums,
    }
    print(json.dumps(result), flush=True)  # noqa: T201 - what the campaign reads


if __name__ == "__main__":
    asyncio.run(main())
