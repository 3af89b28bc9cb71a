"""Sends batches of attempts to an inventory service, a few under way at once, as gateways do.

Prints {"calls": …, "seconds": …, "reserved": …}.
"""

import argparse
import asyncio
import json
import time
import uuid

import grpc
import uvloop

from seckill.v1 import inventory_pb2, inventory_pb2_grpc

BATCH = 512
UNDER_WAY = 4


def requests(sku: str, entries: int) -> list[inventory_pb2.BatchReserveRequest]:
    """Attempts of as many new buyers, in batches."""
    tag = uuid.uuid4().hex[:12]
    return [
        inventory_pb2.BatchReserveRequest(
            sku=sku,
            items=[
                inventory_pb2.ReserveItem(
                    user_id=f"{tag}-{number:07d}", request_id=f"attempt-{number}", quantity=1
                )
                for number in range(first, min(first + BATCH, entries))
            ],
        )
        for first in range(0, entries, BATCH)
    ]


async def reserve(target: str, sku: str, entries: int) -> tuple[float, int]:
    """Send all; returns the seconds it took and how many attempts were reserved."""
    batches = iter(requests(sku, entries))
    reserved = 0

    async def sender(stub: "inventory_pb2_grpc.InventoryServiceAsyncStub") -> None:
        nonlocal reserved
        for batch in batches:
            answer = await stub.BatchReserve(batch, timeout=10)
            reserved += sum(
                result.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED
                for result in answer.results
            )

    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        start_s = time.monotonic()
        await asyncio.gather(*(sender(stub) for _ in range(UNDER_WAY)))
        return time.monotonic() - start_s, reserved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("sku")
    parser.add_argument("entries", type=int)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds, count = runner.run(reserve(given.target, given.sku, given.entries))
    print(json.dumps({"calls": given.entries, "seconds": seconds, "reserved": count}))
