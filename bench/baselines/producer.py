"""A bare aiokafka producer: `send` for each message, all acknowledged at the end.

Prints {"calls": …, "seconds": …}.
"""

import argparse
import asyncio
import json
import time

import uvloop
from aiokafka import AIOKafkaProducer

from seckill.v1 import events_pb2


def message(number: int, *, sku: str, tag: str) -> tuple[bytes, bytes]:
    """Key and value of an order's reservation, as the relay sends it."""
    event = events_pb2.OrderReserved(
        order_no=f"{number:026d}",
        sku=sku,
        user_id=f"{tag}-{number:07d}",
        request_id=f"attempt-{number}",
        quantity=1,
        epoch=1,
    )
    event.reserve_time.FromMilliseconds(int(time.time() * 1000))
    return event.order_no.encode(), event.SerializeToString()


async def produce(bootstrap: str, topic: str, entries: int) -> float:
    """Send; returns the seconds it took."""
    messages = [message(number, sku="baseline", tag="buyer") for number in range(entries)]
    # Durable in the same way as the relay's.
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"warm-up")
        start_s = time.monotonic()
        for key, value in messages:
            await producer.send(topic, value, key=key)
        await producer.flush()
        return time.monotonic() - start_s
    finally:
        await producer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("entries", type=int)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(produce(given.bootstrap, given.topic, given.entries))
    print(json.dumps({"calls": given.entries, "seconds": seconds}))
