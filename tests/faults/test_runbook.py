"""Somebody who has only the runbook brings a damaged mesh back: its command lines are run."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from devstack import KafkaServer, Stores, ValkeyServer
from devstack.mesh import REPOSITORY_ROOT
from tests.kits.factories import sale_terms
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.waiting import eventually

pytestmark = pytest.mark.slow
RUNBOOK = (REPOSITORY_ROOT / "docs/runbook.md").read_text()
EAGER = {"rollback_reconcile_age_min_s": "1", "rollback_reconcile_timeout_s": "5"}


def block(heading: str) -> list[str]:
    """Return the lines of the code block under a heading."""
    section = RUNBOOK.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (first, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return str(first).strip().splitlines()


def run(cluster: Cluster, line: str, sku: str) -> subprocess.CompletedProcess[str]:
    """Run one line as an operator of the cluster."""
    words = line.partition("#")[0].replace("SKU", sku).split()
    env = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
    targets = {
        f"SECKILL_{name.upper()}_TARGET": cluster.address(name)
        for name in ("inventory", "order", "rollback")
    }
    token = cluster.issuer.token("olga", roles=["operator"])
    return subprocess.run(
        [sys.executable, "-m", "seckill_cli", *words[1:]],
        env={**env, **targets, "SECKILL_OPERATOR_TOKEN": token, "COLUMNS": "200"},
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def follow(
    cluster: Cluster, heading: str, sku: str, *, by_hand: Callable[[], object] | None = None
) -> list[str]:
    """Follow a block of the runbook line by line; return what each command said.

    A command that fails is repeated, as the runbook has it; `by_hand` is what a line without a
    command asks for.
    """
    said = []
    for line in block(heading):
        if not line.startswith("seckill "):
            if re.search(r"# \d", line) and by_hand is not None and "bring" in line:
                await asyncio.to_thread(by_hand)
            continue

        async def step(line: str = line) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(run, cluster, line, sku)

        done = await eventually(step, lambda one: one.returncode == 0, timeout_s=60)
        said.append(done.stdout)
    return said


async def test_an_emptied_redis_is_brought_back(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """No order is lost, no unit sold twice, and the rest is sold afterwards."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        await cluster.start("order", "inventory", "rollback", redis_timeout_s="0.5", **EAGER)
        sku = await cluster.open_sale(sale_terms(units=20))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(5)
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_valkey.kill)
        shutil.rmtree(own_valkey.directory / "appendonlydir")
        await asyncio.to_thread(own_valkey.start)
        before, rebuilt, after, compared = await follow(cluster, "An emptied Redis", sku)
        assert "Redis has lost" in before
        assert sku in rebuilt
        assert "Redis has lost" not in after
        assert "agree" in compared
        await buyers.arrive(20)
        # The delay set is not rebuilt: the database's own sweep finds what it lacks.
        wrong = await cluster.reader.violations(sku, buyers.history)
        assert [one for one in wrong if "is not in the delay set" not in one] == []
        assert (await cluster.reader.facts(sku)).sold == 20


async def test_a_dead_broker_is_brought_back(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """Buyers go on meanwhile, and each of them gets their order."""
    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await cluster.start("order", "inventory", "rollback", **EAGER)
        sku = await cluster.open_sale(sale_terms(units=20))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(5)
        await asyncio.to_thread(own_kafka.kill)
        await buyers.arrive(10)
        said = await follow(cluster, "A dead broker", sku, by_hand=own_kafka.start)
        assert "agree" in said[-1]
        assert not await cluster.reader.violations(sku, buyers.history)
        assert (await cluster.reader.facts(sku)).sold == 15
