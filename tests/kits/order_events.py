"""Order events of a mesh, as subscribers of its topic see them."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from tests.kits.mesh import Mesh

TOPIC = "seckill.order-events.v1"
WAIT_S = 20.0


async def event_about(mesh: Mesh, key: str, *, kind: str) -> tuple[ConsumerRecord, dict[str, str]]:
    """Return the first event of this kind about an order or a sale, and its headers."""
    async with (
        AIOKafkaConsumer(
            TOPIC,
            bootstrap_servers=mesh.stores.kafka_bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        ) as client,
        asyncio.timeout(WAIT_S),
    ):
        async for record in client:
            headers = {name: value.decode() for name, value in record.headers}
            if record.key == key.encode() and headers["ce_type"] == f"seckill.order.{kind}.v1":
                return record, headers
    raise AssertionError("unreachable: the topic has no end")
