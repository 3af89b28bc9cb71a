"""How many decisions a second a hot sale gets in 1, 2 and 4 buckets, on as many Valkey processes.

Batches are packed before, and sent by a thread for each bucket over one connection, two on their
way: what is measured is Redis, as far as there are cores for its processes and the senders. What
one decision takes of Redis' CPU says what more cores would bring: a process has one thread.

`python -m bench.measures.buckets` measures this alone.
"""

import asyncio
import hashlib
import itertools
import json
import math
import os
import random
import socket
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import hiredis
from pydantic import SecretStr

from devstack import ValkeyCluster
from devstack.valkey_cluster import ClusterNode
from inventory_svc.keys import (
    backlog_key,
    outbox_key,
    past_key,
    sale_key,
    stock_key,
    users_key,
)
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.scripts import RESERVE
from seckill.buckets import home_of
from seckill.order_no import make_order_nos
from seckill.runtime.bucket_tags import tags_of
from seckill.runtime.redis_client import open_redis
from seckill.runtime.redis_slots import slot_of
from seckill.runtime.store_settings import RedisSettings
from seckill.v1 import sale_pb2

BUCKETS = (1, 2, 4)
# Attempts of one batch, and decisions of a sale in all, whatever its buckets.
BATCH, DECISIONS = 512, 262_144
IN_FLIGHT = 2
# The best of so many counts: what others on the machine take away is not Redis' doing.
ROUNDS = 3
TIMEOUT_S = 30.0
_RESERVED = 1
_DIGEST = hashlib.sha1(RESERVE.body.encode(), usedforsecurity=False).hexdigest()
_RNG = random.Random(1)


def buckets_scaling(directory: Path) -> dict[str, float]:
    """Return decisions a second by buckets, Redis' CPU for one of them, and how both scale."""
    found: dict[str, float] = {"cores": float(os.cpu_count() or 1)}
    for number, buckets in itertools.product(range(ROUNDS), BUCKETS):
        path = directory / f"buckets-{buckets}-{number}"
        with ValkeyCluster(path, shards=buckets, replicas=0) as cluster:
            per_s, cpu_us = _measure(cluster, buckets)
        rate, cpu = f"decisions_per_s_{buckets}", f"redis_cpu_us_{buckets}"
        found[rate] = max(round(per_s), found.get(rate, 0.0))
        found[cpu] = min(round(cpu_us, 2), found.get(cpu, math.inf))
    first, last = BUCKETS[0], BUCKETS[-1]
    found["scaling"] = round(
        found[f"decisions_per_s_{last}"] / found[f"decisions_per_s_{first}"], 2
    )
    # With a core for each process: it is bound by its own CPU alone.
    cheaper = found[f"redis_cpu_us_{first}"] / found[f"redis_cpu_us_{last}"]
    found["scaling_by_cpu"] = round(cheaper * last / first, 2)
    return found


def _measure(cluster: ValkeyCluster, buckets: int) -> tuple[float, float]:
    """Return decisions a second, and microseconds of Redis' CPU for each."""
    sku = f"bench-{uuid.uuid4().hex[:12]}"
    tags = tags_of(sku, buckets)
    asyncio.run(_load(cluster.url, sku, tags))
    batches = _batches(tags, buckets)
    nodes = [cluster.master_of(slot_of([sale_key(tag)])) for tag in tags]
    before_s = sum(map(_cpu_s, cluster.nodes))
    together = Barrier(buckets + 1)
    with ThreadPoolExecutor(buckets) as threads:
        work = [
            threads.submit(_send, node, packed, together)
            for node, packed in zip(nodes, batches, strict=True)
        ]
        together.wait()
        start_s = time.monotonic()
        reserved = sum(one.result() for one in work)
        took_s = time.monotonic() - start_s
    if reserved != DECISIONS:
        raise RuntimeError(f"{reserved} of {DECISIONS} attempts were accepted")
    cpu_s = sum(map(_cpu_s, cluster.nodes)) - before_s
    return DECISIONS / took_s, 1e6 * cpu_s / DECISIONS


async def _load(url: str, sku: str, tags: Sequence[str]) -> None:
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Benchmark",
        total_units=DECISIONS,
        purchase_limit=1,
        unit_price=sale_pb2.Money(currency="EUR", minor_units=100),
    )
    terms.payment_window.FromSeconds(600)
    terms.end_time.FromSeconds(int(time.time()) + 86_400)
    settings = RedisSettings(redis_url=SecretStr(url), redis_cluster=True)
    async with open_redis(settings) as client:
        for tag in tags:
            await SaleLoader(client).load(
                sku,
                to_fields(terms, now_ms=0),
                epoch=1,
                units=DECISIONS // len(tags),
                timeout_s=TIMEOUT_S,
                bucket=tag if len(tags) > 1 else "",
            )


def _batches(tags: Sequence[str], buckets: int) -> list[list[bytes]]:
    """Return packed runs of reserve.lua for the buyers of each home, without its digest."""
    buyers: list[list[str]] = [[] for _ in tags]
    each = DECISIONS // buckets
    for number in itertools.count():
        user = f"buyer-{number}"
        home = buyers[home_of(user, buckets)]
        if len(home) < each:
            home.append(user)
        elif all(len(one) == each for one in buyers):
            break
    return [
        [_packed(tag, users[start : start + BATCH]) for start in range(0, len(users), BATCH)]
        for tag, users in zip(tags, buyers, strict=True)
    ]


def _packed(tag: str, users: Sequence[str]) -> bytes:
    names = (sale_key, stock_key, users_key, outbox_key, backlog_key, past_key)
    numbers = make_order_nos(users, now_s=time.time(), rng=_RNG)
    args = [
        word
        for user, number in zip(users, numbers, strict=True)
        for word in (user, "request", "1", number)
    ]
    keys = [name(tag) for name in names]
    return _command(
        "EVALSHA", _DIGEST, str(len(keys)), *keys, tag, str(2 * DECISIONS), "bench", *args
    )


def _command(*words: Any) -> bytes:
    packed: bytes = hiredis.pack_command(words)
    return packed


def _send(node: ClusterNode, batches: Sequence[bytes], together: Barrier) -> int:
    """Send batches to one node, IN_FLIGHT at a time; return how many attempts were accepted."""
    host, _, port = node.address.partition(":")
    reader, left, reserved = hiredis.Reader(), len(batches), 0
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(_command("SCRIPT", "LOAD", RESERVE.body))
        while not reader.gets():
            reader.feed(connection.recv(65_536))
        together.wait()
        waiting = iter(batches)
        for packed in itertools.islice(waiting, IN_FLIGHT):
            connection.sendall(packed)
        while left:
            reply: Any = reader.gets()
            if reply is False:
                reader.feed(connection.recv(1_048_576))
                continue
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            left -= 1
            reserved += reply[2::2].count(_RESERVED)
            following = next(waiting, None)
            if following is not None:
                connection.sendall(following)
    return reserved


def _cpu_s(node: ClusterNode) -> float:
    with node.client() as client:
        facts: Any = client.info("cpu")
    return float(facts["used_cpu_sys"]) + float(facts["used_cpu_user"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(buckets_scaling(Path(scratch)), indent=2))
