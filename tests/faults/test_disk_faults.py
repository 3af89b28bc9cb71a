"""Redis refuses reservations while its disk is full, and sells again once there is room."""

import asyncio
import dataclasses
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from devstack import ProcessSpec, Stores, ValkeyServer
from tests.kits.factories import sale_terms
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.history import is_refused, is_reserved, reason_of
from tests.kits.waiting import eventually


class BoundedValkey(ValkeyServer):
    """A Valkey whose files a test can keep from growing: its writes fail as on a full disk."""

    def _spec(self) -> ProcessSpec:
        spec = super()._spec()
        # Writes beyond the limit then fail with an error instead of ending the process.
        shell = ["/bin/sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]
        return dataclasses.replace(spec, command=[*shell, *spec.command])

    def fill(self) -> None:
        """Let no file grow beyond its size of now."""
        size = max(path.stat().st_size for path in (self.directory / "appendonlydir").iterdir())
        psutil.Process(self.pid).rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self) -> None:
        """Let files grow again."""
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        psutil.Process(self.pid).rlimit(resource.RLIMIT_FSIZE, unlimited)


@pytest.fixture
def bounded_valkey(tmp_path: Path) -> Iterator[BoundedValkey]:
    """Start a Valkey whose disk the test may fill."""
    with BoundedValkey(tmp_path / "valkey") as server:
        yield server


async def test_a_full_disk_refuses_reservations_until_there_is_room(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    bounded_valkey: BoundedValkey,
) -> None:
    """Attempts are refused without effect, then succeed, and survive a crash of Redis."""
    stores = replace(own_stores, redis_url=bounded_valkey.url)
    async with make_cluster(stores) as cluster:
        await cluster.start("order", "inventory")
        sku = await cluster.open_sale(sale_terms(units=60))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(10)
        bounded_valkey.fill()

        async def refused() -> bool:
            return is_refused(await buyers.attempt())

        # What came just before the failed write was noticed is still in the buffer, not lost.
        await eventually(refused)
        before = await cluster.reader.redis.get(f"seckill:stock:{{{sku}}}")
        turned_away = [await buyers.attempt() for _ in range(20)]
        assert all(map(is_refused, turned_away))
        assert {reason_of(attempt) for attempt in turned_away} == {"DEPENDENCY_UNAVAILABLE"}
        assert await cluster.reader.redis.get(f"seckill:stock:{{{sku}}}") == before
        bounded_valkey.free()
        assert all(map(is_reserved, await buyers.arrive(10)))
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(bounded_valkey.kill)
        await asyncio.to_thread(bounded_valkey.start)
        await buyers.arrive(5)
        assert not await cluster.reader.violations(sku, buyers.history)
