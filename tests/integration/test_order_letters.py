"""`seckill dlq`: dead letters are listed, shown, put back to work and laid aside, from outside."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from deploy.local import Stores
from order_svc.dead_letters import DeadLetter, DeadLetters, Units
from order_svc.kafka_writer import Message, open_writer
from order_svc.letters import Letter, read_letters
from seckill.clock import SystemClock
from seckill.v1.events_pb2 import OrderReserved
from tests.conftest import Topics

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30.0
EVENT = OrderReserved(order_no="A" * 26, sku="kettle", user_id="buyer-1", quantity=2)


class Desk:
    """A dead-letter topic, and an operator before it."""

    def __init__(self, stores: Stores, topics: Topics) -> None:
        self.brokers = stores.kafka_bootstrap
        self.topics = topics

    async def write(self, *letters: tuple[bytes, str, Units, OrderReserved | None]) -> None:
        """Dead letters with this value, cause, fate of the units, and reservation."""
        async with open_writer(self.brokers, timeout_s=TIMEOUT_S) as writer:
            await DeadLetters(self.topics.dead_letters, writer, SystemClock()).write(
                [
                    DeadLetter(self._record(value), cause, f"it is {cause}", units, event)
                    for value, cause, units, event in letters
                ]
            )

    def _record(self, value: bytes) -> ConsumerRecord:
        return ConsumerRecord(
            topic=self.topics.orders,
            partition=1,
            offset=7,
            timestamp=1_700_000_000_000,
            timestamp_type=0,
            key=b"key",
            value=value,
            checksum=None,
            serialized_key_size=3,
            serialized_value_size=len(value),
            headers=(),
        )

    async def command(self, *arguments: str, fails: bool = False) -> str:
        """Run `seckill dlq`; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seckill", "dlq", *arguments),
            env={
                **os.environ,
                "SECKILL_KAFKA_BOOTSTRAP": self.brokers,
                "SECKILL_DEAD_LETTER_TOPIC": self.topics.dead_letters,
                "COLUMNS": "250",
                "NO_COLOR": "1",
            },
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert bool(process.returncode) is fails, output.decode()
        assert b"Traceback" not in output
        return output.decode()

    async def letters(self) -> list[Letter]:
        """What is on the topic."""
        return await read_letters(self.brokers, self.topics.dead_letters, timeout_s=TIMEOUT_S)

    async def redriven(self) -> ConsumerRecord:
        """The first message put back on the orders topic."""
        async with AIOKafkaConsumer(
            self.topics.orders, bootstrap_servers=self.brokers, auto_offset_reset="earliest"
        ) as client:
            async with asyncio.timeout(TIMEOUT_S):
                return await client.getone()


@pytest.fixture
def desk(stores: Stores, topics: Topics) -> Desk:
    """A desk on topics of the test's own."""
    return Desk(stores, topics)


async def test_letters_are_listed_shown_redriven_and_dropped(desk: Desk) -> None:
    """Settled letters leave the list and are still known; what was done stays on record."""
    message = EVENT.SerializeToString()
    await desk.write(
        (message, "unknown_sku", Units.HELD, EVENT), (b"\xff", "undecodable", Units.UNKNOWN, None)
    )
    listed = await desk.command("list")
    assert "2 letters" in listed
    assert "2 held" in listed
    shown = await desk.command("show", "0:0")
    assert EVENT.order_no in shown
    assert "stay held in Redis" in shown
    assert message.hex() in shown
    await desk.command("redrive", "--cause", "unknown_sku")
    again = await desk.redriven()
    assert (again.key, again.value) == (b"key", message)
    assert dict(again.headers)["redriven_from"].decode().endswith("0:0")
    await desk.command("drop", "0:1", "--note", "sent by hand, no buyer")
    assert "0 letters, 2 settled" in await desk.command("list")
    assert "sent by hand, no buyer" in await desk.command("show", "0:1")
    listed = await desk.command("list", "--all")
    assert "redriven" in listed
    assert "dropped" in listed


async def test_what_cannot_be_settled_is_refused(desk: Desk) -> None:
    """Settled before, on record already, from no topic, or not there at all."""
    await desk.write((b"a", "refused", Units.RETURNED, EVENT), (b"b", "refused", Units.HELD, EVENT))
    async with open_writer(desk.brokers, timeout_s=TIMEOUT_S) as writer:
        headers = [("ce_type", b"seckill.outbox.undecodable.v1"), ("error", b"short")]
        await writer.write(desk.topics.dead_letters, [Message(b"kettle", b"x", headers)])
    refused = await desk.command("redrive", "0:0", "0:1", "0:2", fails=True)
    assert "on record already" in refused
    assert "came from no topic" in refused
    assert "1 letters settled" in refused
    assert "was redriven" in await desk.command("drop", "0:1", "--note", "x", fails=True)
    assert "there is no letter 0:99" in await desk.command("show", "0:99", fails=True)
    assert "partition:offset" in await desk.command("show", "twelve", fails=True)
    states = [letter.settled and letter.settled.action for letter in await desk.letters()]
    assert states == [None, "redriven", None]


async def test_nothing_on_the_topic_is_an_empty_list(desk: Desk) -> None:
    """A healthy mesh has no dead letters; a wrong topic is told."""
    assert "0 letters" in await desk.command("list")
    assert "no topic" in await desk.command("list", "--topic", "never-made", fails=True)
