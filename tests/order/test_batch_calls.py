"""Which calls the log lines about a batch of reservation events lead to."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from devstack import Stores
from order_svc.intake.writer import OrderWriter
from order_svc.intake.written import WrittenBatch
from seckill.errors import DependencyUnavailable
from seckill.v1 import events_pb2
from tests.kits.consumer import Bench, OwnTopics, open_bench, reservations

REPEATED = "batch repeated: store unavailable"


@pytest.fixture
async def bench(
    stores: Stores, database_dsn: str, redis_url: str, topics: OwnTopics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    async with open_bench(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as opened:
        yield opened


class FailsOnce(OrderWriter):
    """The database does not answer at first."""

    failed = False

    async def write(self, events: Sequence[events_pb2.OrderReserved]) -> WrittenBatch:
        if not self.failed:
            self.failed = True
            raise DependencyUnavailable("the database does not answer")
        return await super().write(events)


def of_call(call_id: str, values: Sequence[bytes]) -> list[bytes]:
    """These reservations, made by this call."""
    own = events_pb2.OrderReserved(call_id=call_id).SerializeToString()
    return [value + own for value in values]


async def lines_about(bench: Bench, values: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """What the consumer logs of a batch that is repeated once, by event."""
    topic = bench.settings.orders_topic
    for value in values:
        await bench.producer.send_and_wait(topic, value, partition=0)
    with capture_logs([merge_contextvars]) as logs:
        await bench.drain(bench.consumer(writer=FailsOnce(bench.database)), len(values))
    return {line["event"]: dict(line) for line in logs}


async def test_lines_of_a_batch_name_the_calls_that_it_comes_from(bench: Bench) -> None:
    """A single call's id is that of the batch; of several, it has its own and names them."""
    values = reservations(await bench.sale(), 4)
    line = (await lines_about(bench, of_call("call-0001", values[:2])))[REPEATED]
    assert line["request_id"] == "call-0001"
    assert "ids" not in line
    (unknown,) = reservations("sku-unknown", 1)
    mixed = [
        *of_call("call-0001", values[2:3]),
        *of_call("call-0002", [unknown]),
        *of_call('no "id"', values[3:]),
    ]
    lines = await lines_about(bench, mixed)
    assert lines[REPEATED]["request_id"] not in ("", "call-0001", "call-0002")
    assert lines[REPEATED]["ids"] == ["call-0001", "call-0002"]
    line = lines["message moved to the dead letters"]
    event = events_pb2.OrderReserved.FromString(unknown)
    assert line["request_id"] == "call-0002"
    assert (line["order_no"], line["attempt"]) == (event.order_no, event.request_id)
