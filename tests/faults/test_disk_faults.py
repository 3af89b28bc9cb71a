"""The disk of Redis is full: nothing is sold that would not be kept, and selling resumes."""

import asyncio
import dataclasses
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deploy.local import ProcessSpec, Stores, ValkeyServer
from tests.factories import sale_terms
from tests.faults.conftest import MakeBuyers, MakeLine
from tests.faults.history import End
from tests.waiting import eventually


class BoundedValkey(ValkeyServer):
    """Its files can be kept from growing: an error of the write as well, and it needs no root."""

    def _spec(self) -> ProcessSpec:
        spec = super()._spec()
        # Writes beyond the limit then fail with an error instead of ending the process.
        shell = ["/bin/sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]
        return dataclasses.replace(spec, command=[*shell, *spec.command])

    def fill(self) -> None:
        """Leave no room behind what is written."""
        size = max(path.stat().st_size for path in (self.directory / "appendonlydir").iterdir())
        psutil.Process(self.pid).rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self) -> None:
        """Make room again."""
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        psutil.Process(self.pid).rlimit(resource.RLIMIT_FSIZE, unlimited)


@pytest.fixture
def bounded_valkey(tmp_path: Path) -> Iterator[BoundedValkey]:
    """A Valkey whose disk a test may fill."""
    with BoundedValkey(tmp_path / "valkey") as server:
        yield server


async def test_a_full_disk_refuses_reservations_until_there_is_room(
    make_line: MakeLine,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    bounded_valkey: BoundedValkey,
) -> None:
    """Refused without effect; then sold on; and all of it is still there after a crash."""
    stores = replace(own_stores, redis_url=bounded_valkey.url)
    async with make_line(stores) as line:
        await line.start("order", "inventory")
        sku = await line.open_sale(sale_terms(units=60))
        buyers = make_buyers(line, sku)
        await buyers.arrive(10)
        bounded_valkey.fill()

        async def refused() -> bool:
            return (await buyers.press()).end is End.FAILED

        # What came just before the failed write was noticed is still in the buffer, not lost.
        await eventually(refused)
        before = await line.reader.redis.get(f"seckill:stock:{{{sku}}}")
        turned_away = [await buyers.press() for _ in range(20)]
        assert {attempt.end for attempt in turned_away} == {End.FAILED}
        assert {attempt.reason for attempt in turned_away} == {"DEPENDENCY_UNAVAILABLE"}
        assert await line.reader.redis.get(f"seckill:stock:{{{sku}}}") == before
        bounded_valkey.free()
        assert all(attempt.reserved for attempt in await buyers.arrive(10))
        assert not await line.reader.violations(sku, buyers.history)
        await asyncio.to_thread(bounded_valkey.kill)
        await asyncio.to_thread(bounded_valkey.start)
        await buyers.arrive(5)
        assert not await line.reader.violations(sku, buyers.history)
