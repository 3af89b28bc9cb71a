"""Spans of the intake: a batch of messages, linked to what has sent them, and its transaction."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from aiokafka import ConsumerRecord

from order_svc import metrics
from order_svc.settings import OrderSettings
from seckill.runtime import traceparent, tracing
from seckill.runtime.spans import Span, Value
from seckill.runtime.traceparent import TraceContext


def of_batch(
    settings: OrderSettings, records: Sequence[ConsumerRecord]
) -> AbstractContextManager[Span | None]:
    """Return the span of a batch that the block processes, if one of it is traced, or it fails.

    It is below the first of what has sent them, so that one trace leads on, and linked to all.
    """
    if tracing.tracer is None:
        return tracing.NOTHING
    attributes: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": settings.orders_topic,
        "messaging.consumer.group.name": settings.order_consumer_group,
        "messaging.batch.message_count": len(records),
    }
    name = f"process {settings.orders_topic}"
    return tracing.work(name, "consumer", attributes, causes=senders_of(records))


def senders_of(records: Sequence[ConsumerRecord]) -> list[TraceContext]:
    """Return where the messages were sent from, each place once; most name none."""
    found: dict[TraceContext, None] = {}
    for record in records:
        for key, value in record.headers or ():
            if key == traceparent.HEADER:
                place = traceparent.parse(value.decode("latin-1"))
                if place is not None and place.sampled:
                    found[place] = None
    return [*found]


def of_transaction(events: int) -> AbstractContextManager[object]:
    """Return the span of the transaction in the block, if it is of a batch that is traced."""
    return tracing.NOTHING if tracing.current() is None else _of_transaction(events)


@contextmanager
def _of_transaction(events: int) -> Iterator[None]:
    attributes: dict[str, Value] = {
        "db.system.name": "postgresql",
        "db.operation.name": "INSERT",
        "db.collection.name": "orders",
        "db.operation.batch.size": events,
    }
    with tracing.step("INSERT orders", "client", attributes) as span:
        yield
    if span is not None:
        seconds = time.monotonic() - span.begun_s
        metrics.ORDER_INSERT_SECONDS.show_trace(seconds, span.context.trace_id)
