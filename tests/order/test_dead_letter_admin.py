"""`seckill dlq`: dead letters are listed, shown, redriven and dropped through the order service."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from devstack import Stores
from order_svc.intake.dead_letters import DeadLetter, DeadLetterWriter, Units
from seckill.runtime.clock import SystemClock
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import Message, open_writer
from seckill.status import reason_of
from seckill.v1 import order_admin_pb2 as pb
from seckill.v1.events_pb2 import OrderReserved
from tests.kits.consumer import read_dead_letters
from tests.kits.operator import Desk, open_desk
from tests.kits.stores import Topics

TIMEOUT_S = 30.0
EVENT = OrderReserved(order_no="A" * 26, sku="kettle", user_id="buyer-1", quantity=2)


class Letters:
    """A dead-letter topic, and what is put on it."""

    def __init__(self, stores: Stores, topics: Topics) -> None:
        self.brokers = stores.kafka_bootstrap
        self.topics = topics

    async def write(self, *letters: tuple[bytes, str, Units, OrderReserved | None]) -> None:
        """Write dead letters with this value, cause, outcome of the units, and event."""
        async with open_writer(KafkaCluster(self.brokers), timeout_s=TIMEOUT_S) as writer:
            await DeadLetterWriter(self.topics.dead_letters, writer, SystemClock()).write(
                [
                    DeadLetter(self._record(value), cause, f"it is {cause}", units, event)
                    for value, cause, units, event in letters
                ]
            )

    async def write_raw(self, *headers: tuple[str, bytes]) -> None:
        """Write a message that the order service has not written."""
        async with open_writer(KafkaCluster(self.brokers), timeout_s=TIMEOUT_S) as writer:
            message = Message(b"kettle", b"x", list(headers))
            await writer.write(self.topics.dead_letters, [message])

    def _record(self, value: bytes) -> ConsumerRecord:
        return ConsumerRecord(
            # Not the orders topic: the service under test would make dead letters of them again.
            topic=self.topics.dead_letters,
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

    async def redriven(self) -> ConsumerRecord:
        """The first message that was put back."""
        async with AIOKafkaConsumer(
            self.topics.dead_letters, bootstrap_servers=self.brokers, auto_offset_reset="earliest"
        ) as client:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    record = await client.getone()
                    if "redriven_from" in dict(record.headers):
                        return record


@pytest.fixture
def letters(stores: Stores, topics: Topics) -> Letters:
    """A topic of the test's own."""
    return Letters(stores, topics)


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk before a service on that topic."""
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
    ) as opened:
        yield opened


async def test_letters_are_listed_shown_redriven_and_dropped(desk: Desk, letters: Letters) -> None:
    """Settled letters leave the list and are still known; what was done stays on record."""
    message = EVENT.SerializeToString()
    await letters.write(
        (message, "unknown_sku", Units.HELD, EVENT), (b"\xff", "undecodable", Units.UNKNOWN, None)
    )
    listed = await desk.command("dlq", "list")
    assert "2 letters" in listed
    assert "2 held" in listed
    shown = await desk.command("dlq", "show", "0:0")
    assert EVENT.order_no in shown
    assert "stay held in Redis" in shown
    assert message.hex() in shown
    assert "1 letters settled" in await desk.command("dlq", "redrive", "--cause", "unknown_sku")
    again = await letters.redriven()
    assert (again.key, again.value) == (b"key", message)
    assert dict(again.headers)["redriven_from"].decode().endswith("0:0")
    await desk.command("dlq", "drop", "0:1", "--note", "sent by hand, no buyer")
    # What was put back is a letter here: this topic is also where it came from.
    assert "1 letters, 2 settled" in await desk.command("dlq", "list")
    shown = await desk.command("dlq", "show", "0:1")
    assert "by olga: sent by hand, no buyer" in shown
    listed = await desk.command("dlq", "list", "--all")
    assert "redriven" in listed
    assert "dropped" in listed


async def test_what_cannot_be_settled_is_refused(desk: Desk, letters: Letters) -> None:
    """Settled before, on record already, from no topic, or not there at all."""
    await letters.write(
        (b"a", "refused", Units.RETURNED, EVENT), (b"b", "refused", Units.HELD, EVENT)
    )
    await letters.write_raw(("ce_type", b"seckill.outbox.undecodable.v1"), ("error", b"short"))
    refused = await desk.command("dlq", "redrive", "0:0", "0:1", "0:2", "0:99", fails=True)
    assert "on record already" in refused
    assert "came from no topic" in refused
    assert "there is no letter 0:99" in refused
    assert "1 letters settled" in refused
    assert "was redriven" in await desk.command("dlq", "drop", "0:1", "--note", "x", fails=True)
    assert "no letter 0:99" in await desk.command("dlq", "show", "0:99", fails=True)
    assert "partition:offset" in await desk.command("dlq", "show", "twelve", fails=True)
    found = await read_dead_letters(letters.brokers, letters.topics.dead_letters)
    actions = [letter.settlement and letter.settlement.action for letter in found[:3]]
    assert actions == [None, "redriven", None]


async def test_text_from_outside_is_printed_as_text(desk: Desk, letters: Letters) -> None:
    """Neither markup nor a control sequence of a message reaches the terminal."""
    await letters.write_raw(("error", b"[/x] \x1b[31m[bold]red"), ("sku", b"[/b]"))
    for arguments in (("list",), ("show", "0:0")):
        shown = await desk.command("dlq", *arguments)
        assert "[/x] \\x1b[31m[bold]red" in shown
        assert "[/b]" in shown
        assert "\x1b" not in shown


async def test_pages_hold_each_open_letter_once(desk: Desk, letters: Letters) -> None:
    """Walking through the pages meets the letters of the filter in order, settled ones left out."""
    await letters.write(*((b"%d" % one, "refused", Units.HELD, EVENT) for one in range(5)))
    await letters.write((b"5", "unknown_sku", Units.HELD, EVENT))
    drop = pb.DropDeadLettersRequest(positions=["0:1"], note="not wanted")
    assert (await desk.stub.DropDeadLetters(drop, metadata=desk.metadata)).dropped_count == 1

    async def walk(request: pb.ListDeadLettersRequest) -> list[str]:
        seen: list[str] = []
        while True:
            page = await desk.stub.ListDeadLetters(request, metadata=desk.metadata)
            assert page.settled_count == 1
            seen += [letter.position for letter in page.dead_letters]
            if not page.next_page_token:
                return seen
            request.page_token = page.next_page_token

    assert await walk(pb.ListDeadLettersRequest(cause="refused", page_size=2)) == [
        *("0:0", "0:2", "0:3", "0:4")
    ]
    everything = pb.ListDeadLettersRequest(include_settled=True, page_size=4)
    assert await walk(everything) == [f"0:{offset}" for offset in range(6)]


async def test_later_settlement_counts(desk: Desk, letters: Letters) -> None:
    """Two operators at once: what was said last stands; a broken note settles nothing."""
    await letters.write((b"a", "refused", Units.HELD, EVENT))
    for note in (b"first", b"second"):
        await letters.write_raw(
            *(("ce_type", b"seckill.order.dead_letter_settled.v1"), ("settles", b"0:0")),
            *(("action", b"dropped"), ("ce_time", b"2026-01-01T00:00:00"), ("note", note)),
        )
    await letters.write_raw(("ce_type", b"seckill.order.dead_letter_settled.v1"))
    request = pb.GetDeadLetterRequest(position="0:0")
    found = await desk.stub.GetDeadLetter(request, metadata=desk.metadata)
    assert found.dead_letter.settlement.note == "second"
    # A note is not a letter.
    request = pb.GetDeadLetterRequest(position="0:1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.stub.GetDeadLetter(request, metadata=desk.metadata)
    assert reason_of(caught.value) == "DEAD_LETTER_NOT_FOUND"


async def test_positions_that_are_none_are_refused(desk: Desk) -> None:
    """Too few, too many, or not partition:offset."""
    refused: tuple[list[str], ...] = ([], ["0:0"] * 101, ["one"], ["0:-1"], ["٣:0"])
    for positions in refused:
        request = pb.RedriveDeadLettersRequest(positions=positions)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.stub.RedriveDeadLetters(request, metadata=desk.metadata)
        assert reason_of(caught.value) == "INVALID_FIELD", positions


async def test_missing_topic_is_named_and_an_empty_one_is_an_empty_list(
    desk: Desk,
    stores: Stores,
    database_dsn: str,
    redis_url: str,
    topics: Topics,
    tmp_path: Path,
) -> None:
    """A healthy mesh has no dead letters; a topic that does not exist is UNAVAILABLE."""
    assert "0 letters" in await desk.command("dlq", "list")
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=Topics(orders=topics.orders, dead_letters="never-made"),
        secrets=tmp_path,
    ) as other:
        assert "no topic never-made" in await other.command("dlq", "list", fails=True)
